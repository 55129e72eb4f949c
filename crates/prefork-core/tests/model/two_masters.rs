//! Random upgrades by fork in a fake world of two masters: their messages are delayed, workers
//! fail, and one of the masters may be killed.
//!
//! In the end there must be one master with all of its slots. As long as no master was killed, both
//! masters together must never have fewer ready workers than slots.
//!
//! `PF_UPGRADES=N` sets how many are run, `PF_SEED=S` runs one again.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::Supervisor;
use prefork_core::model::action::Action;
use prefork_core::model::backoff::Dice;
use prefork_core::model::event::{Command, Event, WorkerMessage};
use prefork_core::model::exit::ExitStatus;
use prefork_core::model::ids::{MasterId, OpId, Ticket, WorkerId};
use prefork_core::model::operation::Outcome;
use prefork_core::model::peer::{PeerAction, PeerEvent, PeerMessage};
use prefork_core::model::policy::{Canary, Policy, Readiness, Surge};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::signal::Signal;
use prefork_core::model::state::snapshot::Role;
use prefork_core::model::time::Time;
use prefork_core::wire::operation_id::plain;

use super::render;
use super::told::Told;

pub const SLOTS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    Starting,
    Ready,
    Stopping,
    /// It does nothing more, and only KILL ends it.
    Stuck,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Refused,
    Began(OpId),
}

/// One of the two masters.
pub struct Master {
    pub supervisor: Supervisor,
    pub processes: BTreeMap<WorkerId, Process>,
    pub inbox: VecDeque<PeerEvent>,
    /// The exit code, once the master has ended.
    pub ended: Option<u8>,
    /// The master's workers fail at their start.
    pub bad: bool,
    /// Nothing reaches it, and it does nothing.
    pub frozen: bool,
    /// The answers to the requests that it was asked, and the operations that have ended in it.
    pub answers: BTreeMap<Ticket, Vec<Answer>>,
    pub finished: BTreeMap<OpId, usize>,
}

impl Master {
    fn new(supervisor: Supervisor) -> Self {
        Master {
            supervisor,
            processes: BTreeMap::new(),
            inbox: VecDeque::new(),
            ended: None,
            bad: false,
            frozen: false,
            answers: BTreeMap::new(),
            finished: BTreeMap::new(),
        }
    }

    fn is_awake(&self) -> bool {
        self.ended.is_none() && !self.frozen
    }

    fn ready(&self) -> usize {
        let ready = |process: &&Process| **process == Process::Ready;
        self.processes.values().filter(ready).count()
    }
}

pub struct World {
    pub now: Time,
    dice: Dice,
    pub policy: Policy,
    pub masters: Vec<Master>,
    pub story: Vec<String>,
    pub names: Vec<usize>,
    outcome: Option<Outcome>,
    killed: bool,
    /// The master that has said that it has the service now.
    pub took: Option<usize>,
    /// One worker of so many gets stuck; 0: none.
    pub stuck: u64,
    /// The events of both masters.
    pub told: Told,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let surge = match dice.below(4) {
            0 => Surge::Workers(2),
            1 => Surge::Percent(100),
            2 => Surge::Workers(0),
            _ => Surge::Workers(1),
        };
        let policy = Policy {
            ready: Readiness::Notify,
            surge,
            start_failures: 2,
            probation: (dice.below(4) == 0).then_some(Duration::from_secs(5)),
            canary: match dice.below(4) {
                0 => Canary::After(Duration::from_secs(5)),
                1 => Canary::Off,
                _ => Canary::Auto,
            },
            ..Policy::default()
        };
        let old = Supervisor::new(SLOTS, Rc::new(policy.clone()), seed);
        World {
            now: Time(0),
            dice,
            policy,
            masters: vec![Master::new(old)],
            story: Vec::new(),
            names: vec![0],
            outcome: None,
            killed: false,
            took: None,
            stuck: 0,
            told: Told::default(),
        }
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.dice.below(below)
    }

    fn other(&self, of: usize) -> Option<usize> {
        (self.masters.len() > 1).then_some(1 - of)
    }

    pub fn step(&mut self, at: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if self.masters[at].ended.is_some() {
                return;
            }
            self.story.push(format!("{at}: {event:?}"));
            let mut actions = Vec::new();
            let now = self.now;
            self.masters[at].supervisor.step(now, event, &mut actions);
            for action in actions {
                self.story
                    .push(format!("{at}:   {}", render::action(&action)));
                self.perform(at, action, &mut events);
            }
        }
    }

    fn perform(&mut self, at: usize, action: Action, events: &mut VecDeque<Event>) {
        match action {
            Action::Spawn { worker, .. } => {
                let stuck = self.stuck > 0 && self.roll(self.stuck) == 0;
                let process = [Process::Starting, Process::Stuck][usize::from(stuck)];
                self.masters[at].processes.insert(worker, process);
                events.push_back(Event::Forked(worker, 100 + worker.0 as i32));
                events.push_back(Event::Executed(worker));
            }
            Action::Signal(worker, Signal::Kill, _) => self.exits(at, worker, events),
            Action::Signal(worker, ..) => {
                let stuck = self.stuck > 0 && self.roll(self.stuck) == 0;
                if let Some(process) = self.masters[at].processes.get_mut(&worker)
                    && *process != Process::Stuck
                {
                    *process = [Process::Stopping, Process::Stuck][usize::from(stuck)];
                }
            }
            Action::Pin(generation, _) => {
                let policy = Rc::new(self.policy.clone());
                events.push_back(Event::Pinned(generation, policy, PinnedRelease::default()));
            }
            Action::LookForListeners(worker) if self.roll(2) == 0 => {
                events.push_back(Event::ListenersReleased(worker));
            }
            Action::Refused(ticket, ..) => self.answered(at, ticket, Answer::Refused),
            Action::Began(ticket, op) => self.answered(at, ticket, Answer::Began(op)),
            Action::Finished(op, outcome) => {
                *self.masters[at].finished.entry(op).or_default() += 1;
                if at == 0 && op == plain(2) {
                    self.outcome = Some(outcome);
                }
            }
            Action::Exit(code, _) => self.ends(at, code),
            Action::Tell(fact) => self.told.hear(at, &fact),
            Action::Peer(deed) => self.perform_beside(at, deed, events),
            Action::LookForLeftovers => events.push_back(Event::LeftBehind(Vec::new())),
            _ => {}
        }
    }

    fn answered(&mut self, at: usize, ticket: Ticket, answer: Answer) {
        let answers = &mut self.masters[at].answers;
        answers.entry(ticket).or_default().push(answer);
    }

    fn perform_beside(&mut self, at: usize, deed: PeerAction, events: &mut VecDeque<Event>) {
        match deed {
            PeerAction::StartMaster(heir) => {
                let policy = Rc::new(self.policy.clone());
                let new = Supervisor::beside_old_master(policy, SLOTS, 9, 50, *heir);
                let new = new.of_master(MasterId(1));
                self.masters.push(Master::new(new));
                self.names = vec![1, 0];
                events.push_back(Event::Peer(PeerEvent::Started(60)));
            }
            PeerAction::Tell(told) => {
                if told == PeerMessage::Taken {
                    self.took = Some(at);
                }
                let other = self.other(at).expect("there is another");
                self.masters[other].inbox.push_back(PeerEvent::Said(told));
            }
            PeerAction::TakeNamesBack => self.names = vec![0],
            PeerAction::RemoveOldNames => self.names = vec![1],
            PeerAction::Kill => self.kill(1 - at),
            PeerAction::Succeeded | PeerAction::HandedOver | PeerAction::PassOn(_) => {}
        }
    }

    fn exits(&mut self, at: usize, worker: WorkerId, events: &mut VecDeque<Event>) {
        if self.masters[at].processes.remove(&worker).is_some() {
            events.push_back(Event::Exited {
                worker,
                ended: ExitStatus::Exited(0),
                rest: false,
            });
        }
    }

    /// A master's process is gone, with all of its workers. The other master sees that after all
    /// messages of the dead one.
    fn ends(&mut self, at: usize, code: u8) {
        self.masters[at].ended = Some(code);
        self.masters[at].processes.clear();
        if let Some(other) = self.other(at) {
            let how = format!("exited with code {code}");
            let inbox = &mut self.masters[other].inbox;
            inbox.retain(PeerEvent::outlives_its_master);
            inbox.push_back(PeerEvent::Exited(how));
        }
    }

    pub fn kill(&mut self, at: usize) {
        // Only while both live: a service that loses its only master is gone.
        if self.masters.iter().all(|it| it.ended.is_none()) {
            self.story.push(format!("{at} is killed"));
            self.killed = true;
            self.ends(at, 137);
        }
    }

    /// Makes one possible thing happen; false if nothing can.
    pub fn happens(&mut self) -> bool {
        // A master handles the other's end before anything else.
        let gone = |it: &PeerEvent| matches!(it, PeerEvent::Exited(_));
        let first = (0..self.masters.len()).find(|at| {
            let master = &self.masters[*at];
            master.is_awake() && master.inbox.iter().any(gone)
        });
        if let Some(at) = first {
            let happened = self.masters[at].inbox.pop_front().expect("not empty");
            self.step(at, Event::Peer(happened));
            return true;
        }
        let mut can: Vec<(usize, Option<WorkerId>)> = Vec::new();
        for (at, master) in self.masters.iter().enumerate() {
            if master.is_awake() {
                let moving = |(_, process): &(&WorkerId, &Process)| {
                    matches!(process, Process::Starting | Process::Stopping)
                };
                let moving = master.processes.iter().filter(moving);
                can.extend(moving.map(|(worker, _)| (at, Some(*worker))));
                can.extend((!master.inbox.is_empty()).then_some((at, None)));
            }
        }
        if can.is_empty() {
            return self.time_passes();
        }
        let pick = self.roll(can.len() as u64) as usize;
        match can[pick] {
            (at, None) => {
                let happened = self.masters[at].inbox.pop_front().expect("not empty");
                self.step(at, Event::Peer(happened));
            }
            (at, Some(worker)) => self.moves(at, worker),
        }
        true
    }

    fn moves(&mut self, at: usize, worker: WorkerId) {
        let fails = self.masters[at].bad && self.roll(2) == 0;
        match self.masters[at].processes[&worker] {
            Process::Starting if fails => {
                self.masters[at].processes.remove(&worker);
                let ended = ExitStatus::Exited(3);
                let rest = false;
                self.step(
                    at,
                    Event::Exited {
                        worker,
                        ended,
                        rest,
                    },
                );
            }
            Process::Starting => {
                self.masters[at].processes.insert(worker, Process::Ready);
                self.step(at, Event::Said(worker, WorkerMessage::Ready));
            }
            _ => {
                self.masters[at].processes.remove(&worker);
                let (ended, rest) = (ExitStatus::Exited(0), false);
                self.step(
                    at,
                    Event::Exited {
                        worker,
                        ended,
                        rest,
                    },
                );
            }
        }
    }

    fn time_passes(&mut self) -> bool {
        let next = self.masters.iter().filter(|master| master.is_awake());
        let Some(at) = next.filter_map(|it| it.supervisor.deadline()).min() else {
            return false;
        };
        self.now = self.now.max(at);
        for at in 0..self.masters.len() {
            let master = &self.masters[at];
            let due = master.supervisor.deadline();
            if master.is_awake() && due.is_some_and(|due| due <= self.now) {
                self.step(at, Event::Due);
            }
        }
        true
    }

    pub fn ready(&self) -> usize {
        self.masters.iter().map(Master::ready).sum()
    }

    pub fn check(&self, what: &str, holds: bool) {
        assert!(holds, "{what}\n{}", self.story.join("\n"));
    }
}

fn upgrade(seed: u64) {
    let mut world = World::new(seed);
    world.step(0, Event::Start(PinnedRelease::default()));
    while world.ready() < SLOTS || !world.masters[0].supervisor.is_ready() {
        assert!(
            world.happens(),
            "the service starts: {}",
            world.story.join("\n")
        );
    }
    let lowers = world.policy.surge == Surge::Workers(0);
    let fork = Command::Fork { manual: false };
    world.step(0, Event::Command(Ticket(1), fork));
    let bad = world.roll(2) == 0;
    world.masters[1].bad = bad;
    let doomed = world.roll(3);
    let rolls_back = world.roll(4) == 0;
    let moment = world.roll(30);
    world.step(1, Event::Start(PinnedRelease::default()));
    world.masters[0]
        .inbox
        .push_front(PeerEvent::Said(PeerMessage::Hello(60)));
    for turn in 0..2000 {
        if turn == moment {
            match doomed {
                0 => world.kill(0),
                1 => world.kill(1),
                // Once the service is handed over, a rollback is a rollout of its own.
                _ if rolls_back
                    && world.took.is_none()
                    && world.masters.iter().all(|it| it.ended.is_none()) =>
                {
                    let at = world.roll(2) as usize;
                    world.step(at, Event::Command(Ticket(2), Command::Rollback(None)));
                }
                _ => {}
            }
            // Later workers start: a release that can never start is another test's subject.
            if world.killed {
                world.masters[1].bad = false;
            }
        }
        let least = if lowers { SLOTS - 1 } else { SLOTS };
        let enough = world.killed || world.ready() >= least;
        world.check("never fewer ready than slots", enough);
        let alone: Vec<usize> = (0..2)
            .filter(|at| world.masters[*at].ended.is_none())
            .collect();
        if let [at] = alone[..]
            && world.masters[at].supervisor.role() == Role::Master
            && world.masters[at].supervisor.is_ready()
            && world.masters[at].processes.len() == SLOTS
        {
            world.check("it has its names", world.names == [at]);
            world.check("all are ready", world.ready() == SLOTS);
            let done = matches!(world.outcome, Some(Outcome::Done(..)));
            // The old master reports the outcome; a killed one reports nothing.
            if doomed != 0 || !world.killed {
                world.check("the outcome is true", done == (at == 1));
            }
            world.check(
                "both came out well",
                at == 1 || world.masters[1].ended != Some(0),
            );
            return;
        }
        if !world.happens() {
            break;
        }
    }
    world.check("it comes to an end", false);
}

#[test]
fn u16_u19_u20_one_master_and_enough_workers_are_left() {
    for_each_seed(10_000, upgrade);
}

/// Runs one life for each seed: as many as `PF_UPGRADES` says, or the one that `PF_SEED` names.
pub fn for_each_seed(usual: u64, life: fn(u64)) {
    let seeds = match std::env::var("PF_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("PF_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            let many = std::env::var("PF_UPGRADES");
            0..many.map_or(usual, |n| n.parse().expect("PF_UPGRADES is a number"))
        }
    };
    for seed in seeds {
        let tried = std::panic::catch_unwind(|| life(seed));
        assert!(tried.is_ok(), "PF_SEED={seed} runs it again");
    }
}
