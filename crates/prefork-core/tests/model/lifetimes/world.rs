//! The fake world: what can happen to a supervisor, and what the driver would do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::{Action, PinSource, SignalTarget};
use prefork_core::model::backoff::Dice;
use prefork_core::model::event::{Command, Event, LifelineEnd, Rehearsal, Scale, WorkerMessage};
use prefork_core::model::exit::{Cause, ExitStatus, OomCount, OomReading};
use prefork_core::model::fact::Fact;
use prefork_core::model::ids::{Generation, LeftoverId, OpId, Ticket, WorkerId};
use prefork_core::model::leftover::{Holds, LeftBehind, LeftBy};
use prefork_core::model::peer::{PeerAction, PeerEvent};
use prefork_core::model::policy::{Canary, Policy, Readiness, StopSeverity, Surge};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::signal::{Sender, Signal};
use prefork_core::model::state::rollout::RolloutResult;
use prefork_core::model::state::snapshot::{ServiceState, SlotView, Snapshot};
use prefork_core::model::time::Time;

use super::super::told::Told;
use super::super::{handover, render};
use super::listeners::Listeners;

/// A process of the fake world.
#[derive(Default)]
pub(super) struct Process {
    pub(super) generation: u64,
    pub(super) executed: bool,
    pub(super) leader: bool,
    pub(super) rest: bool,
    pub(super) told: bool,
    pub(super) graceful: u32,
    pub(super) killed: bool,
    pub(super) deaf: bool,
    pub(super) unkillable: bool,
    /// It said that it stops.
    stopping: bool,
}

/// A process that a worker has left behind.
pub(super) struct Left {
    found: LeftBehind,
    unkillable: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Time,
    pub(super) policy: Policy,
    /// Whether each generation has settings of its own.
    changes_policies: bool,
    /// All settings that there were.
    pub(super) policies: Vec<Policy>,
    pub(super) supervisor: Supervisor,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    /// What workers have left behind outside their groups.
    left: Vec<Left>,
    /// The last look has found some.
    pub(super) awaits_leftovers: bool,
    /// Workers whose fork failed; the supervisor may get that event a moment later.
    unborn: BTreeSet<WorkerId>,
    pub(super) open: BTreeSet<OpId>,
    pub(super) ended: BTreeSet<OpId>,
    pub(super) tickets: u64,
    pub(super) answered: BTreeSet<Ticket>,
    pub(super) exited: Option<u8>,
    closed: bool,
    pub(super) ready_before: usize,
    pinned: BTreeSet<u64>,
    highest: u64,
    /// So many processes of the cgroup were killed for want of memory; not all are workers.
    oom_kills: u64,
    /// The generation that the upgrade under way is to pin.
    pub(super) successor: Option<Generation>,
    /// Nothing goes wrong any more.
    pub(super) behaves: bool,
    /// The slots whose worker was told to finish for the generation that is rolled to.
    pub(super) given: BTreeSet<u32>,
    pub(super) steps: u64,
    record: bool,
    /// Its events.
    pub(super) told: Told,
    listeners: Listeners,
    pub(super) transcript: String,
}

pub(super) type Check = Result<(), String>;

/// Whether the serving generation is on probation: its rollout still runs.
pub(super) fn on_probation(snapshot: &Snapshot) -> bool {
    let rollout = snapshot.rollout.as_ref();
    snapshot.state == ServiceState::Running
        && rollout.is_some_and(|rollout| rollout.result == RolloutResult::Running)
}

fn rolled_to(snapshot: &Snapshot) -> Option<Generation> {
    snapshot.rollout.as_ref().map(|rollout| rollout.to)
}

fn random_policy(dice: &mut Dice) -> Policy {
    let one = |dice: &mut Dice, of: &[u64]| of[dice.below(of.len() as u64) as usize];
    Policy {
        ready: match dice.below(5) {
            0 => Readiness::Notify,
            1 => Readiness::Heartbeat,
            2 => Readiness::Delay(Duration::from_millis(300)),
            3 => Readiness::Exec,
            _ => Readiness::Auto,
        },
        surge: match dice.below(5) {
            0 => Surge::Workers(0),
            1 => Surge::Percent(100),
            2 => Surge::Workers(2),
            _ => Surge::Workers(1),
        },
        canary: match dice.below(4) {
            0 => Canary::After(Duration::from_millis(500)),
            1 => Canary::Off,
            _ => Canary::Auto,
        },
        // Some so short that they are passed, some so long that a worker dies before.
        probation: one(dice, &[0, 0, 0, 1, 400, 5000])
            .checked_sub(1)
            .map(Duration::from_millis),
        start_failures: one(dice, &[1, 2, 3]) as u32,
        give_up: (dice.below(8) == 0).then_some(4),
        fatal_exit: if dice.below(4) == 0 {
            vec![78]
        } else {
            Vec::new()
        },
        timeout: (dice.below(3) == 0).then(|| Duration::from_secs(2)),
        stop_delay: (dice.below(6) == 0).then(|| Duration::from_secs(1)),
        drain_queue: dice.below(6) == 0,
        max_draining: (dice.below(6) == 0).then_some(2),
        term: if dice.below(8) == 0 {
            StopSeverity::Quick
        } else {
            StopSeverity::Graceful
        },
        ..Policy::default()
    }
}

impl World {
    pub(super) fn new(seed: u64, record: bool) -> World {
        let mut dice = Dice::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(1));
        let policy = random_policy(&mut dice);
        let changes_policies = dice.below(2) == 0;
        let slots = dice.below(5) as usize;
        let supervisor = Supervisor::new(slots, Rc::new(policy.clone()), seed);
        let transcript = format!("new {slots} {policy:?}\n");
        World {
            dice,
            now: Time(0),
            policies: vec![policy.clone()],
            policy,
            changes_policies,
            supervisor,
            processes: BTreeMap::new(),
            left: Vec::new(),
            awaits_leftovers: false,
            unborn: BTreeSet::new(),
            open: BTreeSet::new(),
            ended: BTreeSet::new(),
            tickets: 0,
            answered: BTreeSet::new(),
            exited: None,
            closed: false,
            ready_before: 0,
            pinned: BTreeSet::from([1]),
            highest: 1,
            oom_kills: 0,
            successor: None,
            behaves: false,
            given: BTreeSet::new(),
            steps: 0,
            record,
            told: Told::default(),
            listeners: Listeners::default(),
            transcript,
        }
    }

    /// One random event.
    pub(super) fn happen(&mut self) -> Check {
        let ids: Vec<WorkerId> = self.processes.keys().copied().collect();
        let chosen =
            (!ids.is_empty()).then(|| ids[self.dice.below(ids.len().max(1) as u64) as usize]);
        match (self.dice.below(100), chosen) {
            (0..30, Some(id)) => self.speak(id),
            (30..48, Some(id)) => self.end_of(id),
            (48..52, Some(id)) => self.let_go(id),
            (52..56, _) => self.signal(),
            (56..60, _) if self.successor.is_some() => self.take_over(),
            (56..82, _) => self.ask(),
            (82..86, _) if !self.left.is_empty() => self.look_for_leftovers(),
            _ => self.pass_time(),
        }
    }

    /// The driver looks from time to time after a worker's end.
    fn look_for_leftovers(&mut self) -> Check {
        let found = self.found_leftovers();
        self.step(found, false)
    }

    fn found_leftovers(&mut self) -> Event {
        self.awaits_leftovers = !self.left.is_empty();
        Event::LeftBehind(self.left.iter().map(|left| left.found.clone()).collect())
    }

    /// A worker leaves a process behind.
    fn leave_behind(&mut self, id: WorkerId) {
        let number = self.steps * 100 + self.left.len() as u64;
        let holds = match self.dice.below(4) {
            0 => Holds::Nothing,
            1 => Holds::Perhaps(vec!["a".into()]),
            _ => Holds::Listeners(vec!["a".into()]),
        };
        let left_by = match self.dice.below(4) {
            0 => LeftBy::GoneWorker,
            1 => LeftBy::OtherMaster,
            2 => LeftBy::Unknown,
            _ => LeftBy::Worker(id),
        };
        self.left.push(Left {
            found: LeftBehind {
                id: LeftoverId(number),
                pid: 10_000,
                group: 10_000,
                name: "helper".into(),
                slot: Some(0),
                left_by,
                holds,
            },
            unkillable: self.dice.below(12) == 0,
        });
    }

    fn signal_leftover(&mut self, id: LeftoverId, sig: Signal) {
        let goes = sig == Signal::Kill || self.dice.below(2) == 0;
        self.left
            .retain(|left| left.found.id != id || left.unkillable || !goes);
    }

    fn speak(&mut self, id: WorkerId) -> Check {
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.leader) else {
            return Ok(());
        };
        if !process.executed {
            process.executed = true;
            if self.dice.below(30) == 0 {
                self.step(Event::ExecFailed(id, "no such file".into()), false)?;
                return self.exit(id, ExitStatus::Exited(127), true);
            }
            return self.step(Event::Executed(id), false);
        }
        let saying = match self.dice.below(24) {
            0..8 => WorkerMessage::Beat,
            8..12 => WorkerMessage::Stopping,
            12 => WorkerMessage::Trigger,
            13 => WorkerMessage::Extend(Duration::from_secs(3)),
            14 => WorkerMessage::Watchdog(Duration::from_secs(self.dice.below(3))),
            _ => WorkerMessage::Ready,
        };
        process.stopping |= saying == WorkerMessage::Stopping;
        self.step(Event::Said(id, saying), false)
    }

    fn end_of(&mut self, id: WorkerId) -> Check {
        let process = &self.processes[&id];
        if process.unkillable || (process.deaf && !process.killed) {
            return Ok(());
        }
        if !process.leader {
            return self.emptied(id);
        }
        let told = process.told;
        // Most workers end because they were asked to; some finish, a few crash.
        let stopping = process.stopping;
        if !told && self.dice.below(if stopping { 2 } else { 5 }) > 0 {
            return Ok(());
        }
        if !told && stopping && self.dice.below(4) > 0 {
            return self.exit(id, ExitStatus::Exited(0), true);
        }
        let ended = match self.dice.below(8) {
            0 => ExitStatus::Exited(78),
            1 => ExitStatus::Signaled(Some(Signal::Segv), true),
            2 => ExitStatus::Exited(1),
            3 => ExitStatus::Signaled(Some(Signal::Kill), false),
            _ => ExitStatus::Exited(0),
        };
        self.exit(id, ended, !told)
    }

    fn read_oom_kills(&mut self, reading: OomReading, crash: bool) -> Check {
        let group = "app.service".to_owned();
        let kills = self.oom_kills;
        let count = OomCount { group, kills };
        self.step(Event::OomKills(reading, count), crash)
    }

    pub(super) fn exit(&mut self, id: WorkerId, ended: ExitStatus, crash: bool) -> Check {
        // The count is read before the worker is reaped.
        if ended == ExitStatus::Signaled(Some(Signal::Kill), false) {
            self.oom_kills += self.dice.below(3).saturating_sub(1);
            self.read_oom_kills(OomReading::AfterKill(id), crash)?;
        } else if self.dice.below(3) > 0 {
            // Not where others have died of a KILL at the same moment.
            self.oom_kills += u64::from(self.dice.below(8) == 0);
            self.read_oom_kills(OomReading::AfterExit, crash)?;
        }
        let rest = !self.behaves && self.dice.below(6) == 0;
        if self.dice.below(10) == 0 {
            self.leave_behind(id);
        }
        if let Some(process) = self.processes.get_mut(&id) {
            process.leader = false;
            process.rest = rest;
        }
        if !rest {
            self.processes.remove(&id);
        }
        let before = self.supervisor.snapshot();
        let on_trial = crash && on_probation(&before);
        let held =
            |view: &SlotView| view.worker == Some(id) && view.generation == rolled_to(&before);
        let finished = ended == ExitStatus::Exited(0)
            && self
                .supervisor
                .workers()
                .any(|worker| worker.id == id && worker.said_stopping && worker.is_ready());
        let on_trial = on_trial && !finished && before.slots.iter().any(held);
        let exited = Event::Exited {
            worker: id,
            ended,
            rest,
        };
        self.step(exited, crash)?;
        let after = self.supervisor.snapshot();
        let explained = after.counters.exits.of(Cause::Oom);
        if explained > self.oom_kills {
            return Err(format!(
                "{explained} OOM kills, and the kernel has {}",
                self.oom_kills
            ));
        }
        // Another rollout may have followed it already.
        let is_same = rolled_to(&before) == rolled_to(&after);
        if on_trial && is_same && on_probation(&after) {
            return Err(format!("{id:?} died on probation, and nothing follows"));
        }
        Ok(())
    }

    pub(super) fn emptied(&mut self, id: WorkerId) -> Check {
        self.processes.remove(&id);
        self.step(Event::Emptied(id), false)
    }

    fn let_go(&mut self, id: WorkerId) -> Check {
        let told = self
            .processes
            .get(&id)
            .is_some_and(|process| process.graceful > 0);
        if told {
            self.step(Event::ListenersReleased(id), false)
        } else {
            Ok(())
        }
    }

    /// An upgrade in place: the next image reads the state that this one has written, and pins.
    pub(super) fn take_over(&mut self) -> Check {
        let Some(generation) = self.successor else {
            return Ok(());
        };
        if !self.supervisor.awaits_successor() {
            // A stop came between: the driver ends the check.
            self.successor = None;
            return Ok(());
        }
        let written = handover::written(&self.supervisor)?;
        self.supervisor = handover::read(&written)?;
        let again = handover::written(&self.supervisor)?;
        if written != again {
            return Err("what was read is not what was written".to_owned());
        }
        let copied = self.supervisor.successor_copies();
        let source = copied.map_or(PinSource::Successor, PinSource::SameImage);
        let pin = Action::Pin(generation, source);
        let answer = self.perform(&pin)?;
        self.successor = None;
        answer.map_or(Ok(()), |event| self.step(event, false))
    }

    fn signal(&mut self) -> Check {
        let signals = [
            Signal::Hup,
            Signal::Usr1,
            Signal::Usr2,
            Signal::Winch,
            Signal::Ttin,
            Signal::Ttou,
            Signal::Hup,
            Signal::Ttin,
        ];
        let sig = match self.dice.below(40) {
            0 => Signal::Term,
            1 => Signal::Int,
            2 => Signal::Quit,
            3 => return self.step(Event::LifelineEnded(5, LifelineEnd::NoHolder), true),
            _ => signals[self.dice.below(8) as usize],
        };
        let sender = if self.dice.below(4) == 0 {
            Sender::Terminal
        } else {
            Sender::Process
        };
        self.step(Event::Signal(sig, sender), true)
    }

    fn ask(&mut self) -> Check {
        self.tickets += 1;
        let command = match self.dice.below(44) {
            0..8 => Command::Reload {
                renewed: self.tickets.is_multiple_of(4),
            },
            8..10 => Command::Upgrade,
            10 => Command::Rehearse(Rehearsal::Upgrade),
            11 => Command::Rehearse(Rehearsal::Reload),
            12..16 => Command::Rollback(match self.dice.below(3) {
                0 => Some(Generation(1 + self.dice.below(8))),
                _ => None,
            }),
            16..20 => Command::Scale(Scale::To(self.dice.below(6) as usize)),
            20..24 => Command::Scale(Scale::By(self.dice.below(5) as i64 - 2)),
            24..26 => Command::Pause,
            26..30 => Command::Resume,
            30..35 => Command::RestartWorker(self.dice.below(5) as u32),
            35 => Command::Reopen,
            39..41 => Command::AddListeners {
                new: self.dice.below(4) > 0,
            },
            41..43 => Command::RemoveListeners,
            36 => Command::Retire(Generation(1 + self.dice.below(4))),
            37..39 => Command::Signal(
                Signal::Usr1,
                (self.dice.below(2) == 0).then(|| self.dice.below(5) as u32),
            ),
            // Early stops are rare, so that most lifetimes are long ones.
            _ if self.steps < 50 && self.dice.below(8) > 0 => Command::Resume,
            _ => Command::Stop(if self.dice.below(2) == 0 {
                StopSeverity::Quick
            } else {
                StopSeverity::Graceful
            }),
        };
        self.listeners.ask(&command);
        let lowers = matches!(
            command,
            Command::Scale(_) | Command::Pause | Command::Stop(_)
        );
        self.step(Event::Command(Ticket(self.tickets), command), lowers)
    }

    fn pass_time(&mut self) -> Check {
        match self.supervisor.deadline() {
            Some(at) if self.dice.below(4) > 0 => {
                self.now = self.now.max(at);
                // A worker that is killed at its start timeout did not serve; no other worker may
                // be lost to a deadline.
                self.step(Event::Due, false)
            }
            _ => {
                self.now = self.now + Duration::from_millis(self.dice.below(400));
                self.step(Event::Due, false)
            }
        }
    }

    /// One step, and the driver's answers to it. `may_lower`: whether fewer workers may be ready
    /// after it than before.
    pub(super) fn step(&mut self, event: Event, may_lower: bool) -> Check {
        let mut events = vec![event];
        let mut may_lower = may_lower;
        while !events.is_empty() && self.exited.is_none() {
            let event = events.remove(0);
            self.steps += 1;
            let before = self.rolling_to();
            let has_hole = before.is_some_and(|to| self.has_hole(to));
            let mut told = BTreeSet::new();
            if self.record {
                let _ = writeln!(
                    self.transcript,
                    "# {:?}\n{event:?}",
                    self.now.since(Time(0))
                );
            }
            let mut out = Vec::new();
            self.supervisor.step(self.now, event, &mut out);
            for action in out {
                if self.record {
                    let _ = writeln!(self.transcript, "  {}", render::action(&action));
                }
                if let Action::Tell(fact) = &action {
                    self.told.hear(0, fact);
                }
                self.listeners.see(&action)?;
                // Undoing a scale ends workers; a request that superseded a pause asked for it.
                let lowers = |fact: &Fact| {
                    let text = fact.to_string();
                    let starts = ["scale", "pause", "stop"];
                    starts.iter().any(|start| text.starts_with(start))
                };
                may_lower |= matches!(&action, Action::Tell(fact) if lowers(fact));
                // The end of a worker whose heartbeat stopped is intended too.
                may_lower |= matches!(
                    &action,
                    Action::Signal(_, Signal::Abrt, _) | Action::CloseListeners
                );
                match &action {
                    Action::Signal(worker, sig, SignalTarget::Leader)
                        if *sig == self.policy.graceful_signal =>
                    {
                        told.insert(*worker);
                    }
                    _ => {}
                }
                events.extend(self.perform(&action)?);
            }
            self.check_given(before, has_hole, &told, may_lower)?;
        }
        self.check(may_lower)
    }

    /// Does what the driver would do, and returns its answer; checks the invariants of one action.
    fn perform(&mut self, action: &Action) -> Result<Option<Event>, String> {
        match action {
            Action::Spawn {
                worker, generation, ..
            } => {
                if self.closed {
                    return Err(format!(
                        "{worker:?} is started after the listeners were closed"
                    ));
                }
                if !self.pinned.contains(&generation.0) {
                    return Err(format!(
                        "{worker:?} is started from generation {generation}, which is not pinned"
                    ));
                }
                if !self.behaves && self.dice.below(80) == 0 {
                    self.unborn.insert(*worker);
                    return Ok(Some(Event::SpawnFailed(
                        *worker,
                        "Resource temporarily unavailable".into(),
                    )));
                }
                let process = Process {
                    generation: generation.0,
                    leader: true,
                    deaf: !self.behaves && self.dice.below(12) == 0,
                    unkillable: !self.behaves && self.dice.below(60) == 0,
                    ..Process::default()
                };
                self.processes.insert(*worker, process);
                return Ok(Some(Event::Forked(*worker, worker.0 as i32)));
            }
            // The new master never says hello: only its process starts and exits.
            Action::Peer(PeerAction::StartMaster(heir)) => {
                self.highest = heir.to.0;
                self.pinned.insert(heir.to.0);
                return Ok(Some(Event::Peer(PeerEvent::Started(60))));
            }
            Action::Peer(PeerAction::Kill) => {
                let how = "was killed by KILL before it stood".to_owned();
                return Ok(Some(Event::Peer(PeerEvent::Exited(how))));
            }
            Action::Signal(worker, sig, to) => {
                return self.signalled(*worker, *sig, *to).map(|()| None);
            }
            Action::Deliver(worker, _) if !self.processes.contains_key(worker) => {
                return Err(format!("{worker:?} is signalled and does not live"));
            }
            Action::Pin(generation, PinSource::Successor | PinSource::SameImage(_))
                if self.successor != Some(*generation) =>
            {
                self.successor = Some(*generation);
            }
            Action::Pin(generation, source) => {
                let same_as = match source {
                    PinSource::Of(old) | PinSource::SameImage(old) => Some(*old),
                    _ => None,
                };
                if generation.0 < self.highest {
                    return Err(format!("generation {generation} is used twice"));
                }
                if !self.behaves && self.dice.below(6) == 0 {
                    return Ok(Some(Event::PinFailed(*generation, "no such file".into())));
                }
                if !self.pinned.insert(generation.0) {
                    return Err(format!("generation {generation} is used twice"));
                }
                self.highest = generation.0;
                if self.changes_policies {
                    self.policy = random_policy(&mut self.dice);
                    self.policies.push(self.policy.clone());
                }
                return Ok(Some(Event::Pinned(
                    *generation,
                    Rc::new(self.policy.clone()),
                    PinnedRelease {
                        same_as,
                        listeners: self.listeners.pin(*generation, *source),
                        ..PinnedRelease::default()
                    },
                )));
            }
            Action::Forget(generation) if !self.pinned.remove(&generation.0) => {
                return Err(format!("generation {generation} is forgotten twice"));
            }
            Action::Began(ticket, op) => {
                self.answer(*ticket)?;
                self.open.insert(*op);
            }
            Action::Refused(ticket, ..) => self.answer(*ticket)?,
            Action::Finished(op, outcome) => self.finished(*op, outcome)?,
            Action::Abandon(worker) => {
                self.processes.remove(worker);
            }
            Action::CloseListeners => self.closed = true,
            Action::LookWhetherHeld(worker) => {
                return Ok(Some(Event::Held(
                    *worker,
                    !self.behaves && self.dice.below(4) == 0,
                )));
            }
            Action::LookWhetherDumping(worker) => {
                return Ok(Some(Event::Dumping(
                    *worker,
                    !self.behaves && self.dice.below(2) == 0,
                )));
            }
            Action::LookAtQueues if self.behaves || self.dice.below(2) == 0 => {
                return Ok(Some(Event::QueueDepths(Vec::new())));
            }
            Action::LookForLeftovers => {
                return Ok(Some(self.found_leftovers()));
            }
            Action::SignalLeftover(id, sig) => self.signal_leftover(*id, *sig),
            Action::Exit(code, _) => {
                if let Some((id, _)) = self.processes.iter().next() {
                    return Err(format!("exit while {id:?} lives"));
                }
                let awaited = |left: &&Left| !left.unkillable && left.found.holds != Holds::Nothing;
                if let Some(left) = self.left.iter().find(awaited) {
                    return Err(format!("exit while {:?} lives", left.found.id));
                }
                self.exited = Some(*code);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Each request is answered once.
    fn answer(&mut self, ticket: Ticket) -> Check {
        if self.answered.insert(ticket) {
            return Ok(());
        }
        Err(format!("{ticket:?} is answered twice"))
    }

    fn signalled(&mut self, worker: WorkerId, sig: Signal, to: SignalTarget) -> Check {
        let graceful = self.policy.graceful_signal;
        if self.unborn.contains(&worker) {
            return Ok(());
        }
        let Some(process) = self.processes.get_mut(&worker) else {
            return Err(format!("{worker:?} gets {sig} and does not live"));
        };
        match to {
            SignalTarget::Leader if !process.leader => {
                return Err(format!("{worker:?} gets {sig} and its leader is gone"));
            }
            SignalTarget::Leader if sig == graceful => process.graceful += 1,
            SignalTarget::Leader | SignalTarget::Group => {}
        }
        process.told = true;
        process.killed |= sig == Signal::Kill;
        if process.graceful > 1 {
            return Err(format!("{worker:?} is asked to finish twice"));
        }
        Ok(())
    }
}
