//! The supervisor: slots, workers and what is under way, as one value.
//!
//! [`Supervisor::step`] takes what happened and says what is to be done; [`Supervisor::deadline`] says when to come back
//! with [`Event::Due`]. After every event one pass, `Supervisor::settle`, compares what is with what is wanted and takes the next
//! steps; so an interrupted plan needs no undoing, it is simply planned anew. The plans are in the sibling files: `rollout`, `scale`, `restart`,
//! `stop`; what clients and signals ask for is in `command`.

pub mod commands;
pub mod restart_worker;
pub mod retire;
pub mod scale;
pub mod snapshot;
pub mod stop;
pub mod timers_due;
pub mod worker_exit;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::backoff::Dice;
use super::event::{Action, Event, Generation, Level, OpId, Saying, WorkerId};
use super::fork::Beside;
use super::policy::{Policy, StopSeverity};
use super::rollout::pin::Pinning;
use super::rollout::{Record, Rollout};
use super::state::operation::Operations;
use super::state::readiness_memory::Memory;
use super::state::slots::Slot;
use super::supervisor::retire::Retiring;
use super::supervisor::scale::Scaling;
use super::supervisor::stop::Stopping;
use super::time::Time;
use super::timer::{Timer, Timers};
use super::worker::{Effect, Input, Phase, Worker};

/// What the supervisor is about, rollouts aside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// The driver has not said that it stands ready.
    Idle,
    /// Slots are kept filled.
    Running,
    /// The workers were sent away; who waits for that.
    Paused(Option<OpId>),
    /// The service is going.
    Stopping(Stopping),
    /// It is gone.
    Over,
}

/// What came during a rollout and follows it, once.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) hup: bool,
    pub(crate) winch: bool,
}

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Workers started.
    pub spawned: u64,
    /// Workers that became ready.
    pub readied: u64,
    /// Workers that ended without being asked to.
    pub died: u64,
    /// Workers that ended before, or at once after, they were ready.
    pub failed_starts: u64,
    /// Workers that had to be killed.
    pub killed: u64,
    /// Rollouts done.
    pub rollouts: u64,
    /// Rollouts rolled back.
    pub rolled_back: u64,
}

/// The pure heart of `pf-master`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Supervisor {
    pub(crate) policy: Rc<Policy>,
    pub(crate) slots: Vec<Slot>,
    #[serde(with = "super::state::kept::pairs")]
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) timers: Timers,
    pub(crate) dice: Dice,
    pub(crate) mode: Mode,
    pub(crate) serving: Option<Generation>,
    pub(crate) previous: Option<(Generation, Rc<Policy>)>,
    pub(crate) pinning: Option<Pinning>,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) last_rollout: Option<Record>,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) retiring: Vec<Retiring>,
    pub(crate) remembered: Remembered,
    pub(crate) operations: Operations,
    pub(crate) counters: Counters,
    pub(crate) last_generation: u64,
    pub(crate) listener_looks: u32,
    last_worker: u64,
    pub(crate) memory: Memory,
    pub(crate) failed_in_a_row: u32,
    /// The number of slots on the command line.
    pub(crate) configured: usize,
    /// The other master, during an upgrade by fork.
    pub(crate) beside: Option<Beside>,
}

impl Supervisor {
    /// A supervisor of so many slots whose first generation, number 1, is pinned with this policy. Nothing happens before
    /// [`Event::Start`]. `seed`: for the jitter of backoffs.
    pub fn new(workers: usize, policy: Rc<Policy>, seed: u64) -> Self {
        let slots = (0..workers).map(|_| Slot::new(&policy)).collect();
        Supervisor {
            policy,
            slots,
            workers: BTreeMap::new(),
            timers: Timers::default(),
            dice: Dice::new(seed),
            mode: Mode::Idle,
            serving: None,
            previous: None,
            pinning: None,
            rollout: None,
            last_rollout: None,
            scaling: None,
            retiring: Vec::new(),
            remembered: Remembered::default(),
            operations: Operations::default(),
            counters: Counters::default(),
            last_generation: 0,
            listener_looks: 0,
            last_worker: 0,
            memory: Memory::default(),
            failed_in_a_row: 0,
            configured: workers,
            beside: None,
        }
    }

    /// When [`Event::Due`] is wanted; None: nothing is waited for, however long it takes.
    pub fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Takes one event; pushes what is to be done, in this order.
    pub fn step(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        if matches!(self.mode, Mode::Over) {
            return;
        }
        match event {
            Event::Start => self.start_service(now, out),
            Event::Forked(worker, pid) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.pid = Some(pid);
                }
                // A label, which no plan depends on.
                return;
            }
            Event::SpawnFailed(worker, why) => self.feed(now, worker, Input::SpawnFailed(why), out),
            Event::Executed(worker) => self.feed(now, worker, Input::Executed, out),
            Event::ExecFailed(worker, why) => self.feed(now, worker, Input::ExecFailed(why), out),
            Event::Said(worker, saying) => {
                if let (Saying::Ready | Saying::Beat, Some(speaker)) =
                    (saying, self.workers.get(&worker))
                {
                    self.memory.heard(speaker.generation);
                }
                self.feed(now, worker, Input::Said(saying), out);
            }
            Event::Exited {
                worker,
                ended,
                rest,
            } => self.feed(now, worker, Input::Exited(ended, rest), out),
            Event::Emptied(worker) => self.feed(now, worker, Input::Emptied, out),
            Event::ListenersReleased(worker) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.let_go = true;
                }
            }
            Event::Held(worker, held) => self.feed(now, worker, Input::Held(held), out),
            Event::Dumping(worker, dumping) => self.feed(now, worker, Input::Dumping(dumping), out),
            Event::QueuesEmpty => self.queues_empty(now, out),
            Event::Rebound(listener) => self.rebound(now, &listener, out),
            Event::Signal(signal, sender) => self.signal(now, signal, sender, out),
            Event::Command(ticket, command) => self.command(now, ticket, command, out),
            Event::Pinned(generation, policy) => self.pinned(now, generation, policy, out),
            Event::PinFailed(generation, why) => self.pin_failed(now, generation, why, out),
            Event::Beside(what) => self.beside_happened(now, what, out),
            Event::Due => self.due(now, out),
        }
        self.settle(now, out);
    }

    /// Takes the next steps until none is left: one may make room for another (a slot that is taken, a rollout that is over), and nobody
    /// would come back for that.
    fn settle(&mut self, now: Time, out: &mut Vec<Action>) {
        loop {
            let before = out.len();
            self.settle_once(now, out);
            if out.len() == before {
                return;
            }
        }
    }

    /// Compares what is with what is wanted and takes the next steps.
    fn settle_once(&mut self, now: Time, out: &mut Vec<Action>) {
        match self.mode {
            Mode::Running => {
                // Before the slots are filled: the first rollout fills the others once its canary is past.
                self.judge_canary(now);
                self.fill(now, out);
                self.settle_rollout(now, out);
                self.settle_beside(now, out);
                self.settle_restarts(now, out);
                self.settle_scaling(now, out);
                self.follow_up(now, out);
            }
            Mode::Paused(_) => {
                self.settle_pause(now, out);
                self.settle_beside(now, out);
            }
            Mode::Stopping(_) => {
                // While a stop is only announced, whoever dies is replaced: the service still serves.
                if self.still_serves() {
                    self.fill(now, out);
                }
                self.settle_stop(now, out);
            }
            Mode::Idle | Mode::Over => {}
        }
        let over = |rollout: &Rollout| rollout.on_probation();
        if self.rollout.as_ref().is_none_or(over)
            && self.slots.iter().all(|slot| slot.restart.is_none())
        {
            // Nobody waits any more for anybody to let go of the listeners.
            self.listener_looks = 0;
            self.timers.clear(Timer::Listeners);
            self.timers.clear(Timer::ReleaseDeadline);
        }
        self.settle_drains(now, out);
        self.plan_next_look(now);
    }

    /// Every empty slot gets a worker, unless something speaks against it.
    fn fill(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut room = self.room_beside();
        for index in 0..self.slots.len() {
            // Nearly always all are filled, and this runs after every event.
            if self.slots[index].current.is_some() || self.slots[index].blocked_by.is_some() {
                continue;
            }
            if room == 0 || self.other_has(index) {
                continue;
            }
            let Some((generation, policy)) = self.filler(index) else {
                continue;
            };
            let resting = self.timers.runs(Timer::Backoff(index as u32));
            let slot = &mut self.slots[index];
            if slot.down == Some(generation) {
                continue;
            }
            // A replacement of the right generation that is under way already need not wait for its turn.
            let under_way = slot.replacement.filter(|id| {
                self.workers
                    .get(id)
                    .is_some_and(|worker| worker.generation == generation)
            });
            if under_way.is_some() {
                slot.current = slot.replacement.take();
            } else if !resting {
                let worker = self.start_worker(now, index, generation, policy, out);
                self.slots[index].current = Some(worker);
                room -= 1;
            }
        }
    }

    /// Asks for a worker.
    pub(crate) fn start_worker(
        &mut self,
        now: Time,
        index: usize,
        generation: Generation,
        policy: Rc<Policy>,
        out: &mut Vec<Action>,
    ) -> WorkerId {
        self.last_worker += 1;
        self.counters.spawned += 1;
        let id = WorkerId(self.last_worker);
        let slot = index as u32;
        if let Some(timeout) = policy.start_timeout {
            self.timers.set(Timer::Start(id), now + timeout);
        }
        self.workers
            .insert(id, Worker::new(id, slot, generation, policy, now));
        out.push(Action::Spawn {
            worker: id,
            slot,
            generation,
        });
        id
    }

    /// Tells a worker to go.
    pub(crate) fn tell(
        &mut self,
        now: Time,
        worker: WorkerId,
        word: StopSeverity,
        out: &mut Vec<Action>,
    ) {
        self.feed(now, worker, Input::Tell(word), out);
    }

    /// There are too many that drain.
    pub(crate) fn over_limit(&mut self, now: Time, worker: WorkerId, out: &mut Vec<Action>) {
        self.feed(now, worker, Input::OverLimit, out);
    }

    /// Hands an input to one worker and acts on the effects.
    pub(crate) fn feed(&mut self, now: Time, id: WorkerId, input: Input, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let mut effects = Vec::new();
        let requires_notification = self.memory.requires_notification(worker.generation);
        worker.handle(now, input, requires_notification, &mut effects);
        for effect in effects {
            match effect {
                Effect::Act(action) => {
                    self.counters.killed += u64::from(matches!(
                        action,
                        Action::Signal(_, super::signal::Signal::Kill, _)
                    ));
                    out.push(action);
                }
                Effect::Set(timer, at) => self.timers.set(timer, at),
                Effect::Clear(timer) => self.timers.clear(timer),
                Effect::BecameReady => self.became_ready(now, id, out),
                Effect::LeaderGone(exit) => self.leader_gone(now, id, exit, out),
                Effect::Gone => {
                    self.timers.clear_worker(id);
                    self.workers.remove(&id);
                    for slot in self
                        .slots
                        .iter_mut()
                        .filter(|slot| slot.blocked_by == Some(id))
                    {
                        slot.blocked_by = None;
                    }
                }
            }
        }
    }

    fn became_ready(&mut self, now: Time, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        self.counters.readied += 1;
        // Whatever failed in this slot before, it can start workers now.
        self.timers.clear(Timer::Backoff(worker.slot));
        let after = super::event::human(now.since(worker.started_at));
        out.push(worker.note(
            Level::Info,
            format!("{} is ready after {after}", worker.label()),
        ));
        self.progress(id, out);
    }

    fn start_service(&mut self, now: Time, out: &mut Vec<Action>) {
        if !matches!(self.mode, Mode::Idle) {
            return;
        }
        self.mode = Mode::Running;
        let policy = Rc::clone(&self.policy);
        self.last_generation += 1;
        let to = Generation(self.last_generation);
        let (kind, op) = match &self.beside {
            Some(beside) => ("upgrade", beside.op),
            None => {
                self.memory.begins(to, None);
                ("start", self.operations.begin(now, "start", None, out))
            }
        };
        self.begin_rollout(now, Pinning { op, kind, to }, policy, out);
    }

    /// The worker, if it lives.
    pub(crate) fn worker(&self, id: Option<WorkerId>) -> Option<&Worker> {
        id.and_then(|id| self.workers.get(&id))
    }

    /// Workers that were told to go and may still accept, among those that `which` picks.
    pub(crate) fn still_accepting(&self, which: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        let told =
            |worker: &&Worker| matches!(worker.phase, Phase::Stopping(_) | Phase::Leaderless(_));
        self.workers
            .values()
            .filter(told)
            .filter(|worker| !worker.let_go && which(worker))
            .map(|worker| worker.id)
            .collect()
    }

    /// Whether the slot waits before its next start.
    pub(crate) fn rests(&self, index: usize) -> bool {
        self.timers.runs(Timer::Backoff(index as u32))
    }
}
