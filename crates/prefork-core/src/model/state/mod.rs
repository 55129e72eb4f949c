//! Everything that the supervisor remembers, as plain data. Nothing here decides.
//!
//! The rooms that decide ([`supervisor`](super::supervisor), [`rollout`](super::rollout),
//! [`fork`](super::fork)) are `impl Supervisor` blocks that import this room and never each other,
//! so their arrows all run this way. In reading order:
//!
//! - [`Supervisor`]: the whole;
//! - [`slots`]: a worker's place, its back-off and how its last process ended;
//! - `slot_sets`, `workers`: what is asked of all slots and all workers at once, as `sets`; in
//!   tests `looks` counts what is looked at;
//! - [`rollout`]: from one generation to the next, and the record of the last one;
//! - [`changes`]: scaling, retiring, pausing, stopping, deferred signals;
//! - `leftovers`: what workers left behind outside their process groups;
//! - [`oom`]: which deaths the kernel's counts of OOM kills explain;
//! - [`peer`]: the other master during an upgrade by fork;
//! - [`snapshot`]: the same for display;
//! - [`handover`]: the part of it that survives an upgrade in place.

pub mod changes;
pub mod handover;
pub(crate) mod leftovers;
mod looks;
pub mod oom;
pub mod peer;
pub mod rollout;
mod sets;
pub(crate) mod slot_sets;
pub mod slots;
pub mod snapshot;
pub(crate) mod workers;

use std::cell::RefCell;
use std::rc::Rc;

use super::backoff::Dice;
use super::counters::Counters;
use super::ids::{Generation, MasterId, WorkerId};
use super::operation::Operations;
use super::peer::{ForkState, PeerSide};
use super::policy::Policy;
use super::readiness_memory::ReadinessMemory;
use super::releases::Releases;
use super::timer::Timers;
use super::worker::Worker;
use changes::{DeferredSignals, Mode, Retiring, Scaling};
use leftovers::Leftovers;
use oom::OomKills;
use peer::Peer;
use rollout::{Pinning, Rollout, RolloutRecord};
use slot_sets::{SlotSet, SlotSets};
use slots::Slots;
use workers::Workers;

/// The pure heart of `pf-master`: takes events, says what is to be done.
#[derive(Debug, Clone)]
pub struct Supervisor {
    /// The settings of the generation that serves.
    pub(crate) policy: Rc<Policy>,
    pub(crate) slots: Slots,
    /// What is asked of all slots; current once the marked ones are filed anew.
    slot_sets: RefCell<SlotSets>,
    pub(crate) workers: Workers,
    pub(crate) timers: Timers,
    pub(crate) dice: Dice,
    pub(crate) mode: Mode,
    /// The generation that serves; None before the first rollout is done.
    pub(crate) serving: Option<Generation>,
    /// The generations so far, and the releases that can be gone back to.
    pub(crate) releases: Releases,
    pub(crate) pinning: Option<Pinning>,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) last_rollout: Option<RolloutRecord>,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) retiring: Vec<Retiring>,
    pub(crate) deferred: DeferredSignals,
    pub(crate) operations: Operations,
    pub(crate) counters: Counters,
    pub(crate) last_generation: u64,
    pub(crate) last_worker: u64,
    /// How often the told workers were looked at for listeners since a rollout waits for that.
    pub(crate) listener_looks: u32,
    pub(crate) readiness_memory: ReadinessMemory,
    pub(crate) consecutive_failed_starts: u32,
    /// The number of slots on the command line.
    pub(crate) configured: usize,
    /// The other master, during an upgrade by fork.
    pub(crate) peer: Option<Peer>,
    /// Not handed over: the next image looks itself.
    pub(crate) leftovers: Leftovers,
    /// Which deaths were for want of memory.
    pub(crate) oom: OomKills,
}

impl Supervisor {
    /// A supervisor of this many slots whose first generation, number 1, is pinned with this
    /// policy. Nothing happens before [`Event::Start`](super::event::Event::Start). `seed` is for
    /// the jitter of back-offs.
    pub fn new(workers: usize, policy: Rc<Policy>, seed: u64) -> Self {
        Supervisor {
            slots: Slots::new(workers, &policy),
            policy,
            slot_sets: RefCell::default(),
            workers: Workers::default(),
            timers: Timers::default(),
            dice: Dice::new(seed),
            mode: Mode::Idle,
            serving: None,
            releases: Releases::default(),
            pinning: None,
            rollout: None,
            last_rollout: None,
            scaling: None,
            retiring: Vec::new(),
            deferred: DeferredSignals::default(),
            operations: Operations::default(),
            counters: Counters::default(),
            last_generation: 0,
            last_worker: 0,
            listener_looks: 0,
            readiness_memory: ReadinessMemory::default(),
            consecutive_failed_starts: 0,
            configured: workers,
            peer: None,
            leftovers: Leftovers::default(),
            oom: OomKills::default(),
        }
    }

    /// The supervisor of a new master beside the old one, process `old_pid`. `slots` is the number
    /// on its own command line.
    pub fn beside_old_master(
        policy: Rc<Policy>,
        slots: usize,
        seed: u64,
        old_pid: i32,
        state: ForkState,
    ) -> Self {
        let mut peer = Peer::new(PeerSide::New, state.manual, state.op);
        peer.pid = Some(old_pid);
        peer.answers = state.answers;
        peer.is_copy = state.is_copy;
        peer.counters_at_fork = state.counters;
        let mut operations = state.operations;
        operations.share_except(Some(state.op));
        let mut supervisor = Supervisor::new(state.scaled.unwrap_or(slots), policy, seed);
        for (slot, totals) in supervisor.slots.iter_mut().zip(state.slots) {
            slot.totals = totals;
        }
        Supervisor {
            counters: state.counters,
            configured: slots,
            operations,
            readiness_memory: state.readiness_memory,
            last_generation: state.to.0.saturating_sub(1),
            releases: state.releases,
            peer: Some(peer),
            ..supervisor
        }
    }

    /// The same, of the master with this id: its operations are no other master's.
    pub fn of_master(mut self, id: MasterId) -> Self {
        self.operations.belong_to(id);
        self
    }

    /// The generations so far, and the releases that can be gone back to.
    pub fn releases(&self) -> &Releases {
        &self.releases
    }

    /// The number of slots on the command line that started the service.
    pub fn configured(&self) -> usize {
        self.configured
    }

    /// The worker, if it lives.
    pub(crate) fn worker(&self, id: Option<WorkerId>) -> Option<&Worker> {
        id.and_then(|id| self.workers.get(&id))
    }

    /// Whether this worker lives and is ready.
    pub(crate) fn is_ready_worker(&self, id: Option<WorkerId>) -> bool {
        self.worker(id).is_some_and(Worker::is_ready)
    }

    /// Changes one worker; None: nothing of it lives.
    pub(crate) fn change_worker<T>(
        &mut self,
        id: WorkerId,
        change: impl FnOnce(&mut Worker) -> T,
    ) -> Option<T> {
        let slot = self.workers.get(&id)?.slot;
        self.slots.mark(slot as usize);
        self.workers.change(id, change)
    }

    /// How many workers may be started now beyond the slots, within `--surge` of this policy.
    pub(crate) fn surge_room(&self, policy: &Policy) -> usize {
        let surge = policy.surge.of(self.slots.len());
        surge.saturating_sub(self.count_slots(SlotSet::HasReplacement))
    }

    /// The next worker's number.
    pub(crate) fn next_worker_id(&mut self) -> WorkerId {
        self.last_worker += 1;
        WorkerId(self.last_worker)
    }

    /// The next generation's number.
    pub(crate) fn next_generation(&mut self) -> Generation {
        self.last_generation += 1;
        Generation(self.last_generation)
    }
}
