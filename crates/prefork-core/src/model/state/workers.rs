//! All workers of which something lives, with what is asked of many of them at once as sets.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::looks;
use super::sets::Sets;
use crate::model::ids::{Generation, WorkerId};
use crate::model::time::Time;
use crate::model::worker::Worker;

/// A set of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkerSet {
    /// On its way to being ready.
    Starting,
    /// It may be relied on to serve.
    Ready,
    /// It waits for its first beat to be ready.
    AwaitsBeat,
    /// It was told to finish, and may still accept.
    Accepting,
    /// It was told to finish, and has its time to do so.
    Draining,
    /// The same, by when it was told.
    DrainsSince(Option<Time>),
    /// It is of this generation, was told to finish, and something of it lives.
    ToldOf(Generation),
    /// Its heartbeat is missed after this time.
    Timed(Duration),
    /// It was started for this slot.
    OfSlot(u32),
}

impl WorkerSet {
    /// The sets that this worker is in.
    fn of(worker: &Worker) -> Vec<WorkerSet> {
        let mut sets = vec![WorkerSet::OfSlot(worker.slot)];
        for (set, is_in) in [
            (WorkerSet::Starting, worker.is_starting()),
            (WorkerSet::Ready, worker.is_ready()),
            (WorkerSet::AwaitsBeat, worker.awaits_first_beat()),
            (WorkerSet::Accepting, worker.may_still_accept()),
            (WorkerSet::ToldOf(worker.generation), worker.is_told()),
        ] {
            sets.extend(is_in.then_some(set));
        }
        if worker.drains() {
            let since = WorkerSet::DrainsSince(worker.told_at);
            sets.extend([WorkerSet::Draining, since]);
        }
        let timeout = worker.heartbeat.timeout.filter(|_| worker.is_timed());
        sets.extend(timeout.map(WorkerSet::Timed));
        sets
    }
}

/// All sets of workers whose heartbeat is timed.
const TIMED: RangeInclusive<WorkerSet> =
    WorkerSet::Timed(Duration::ZERO)..=WorkerSet::Timed(Duration::MAX);

/// All workers, by their number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    sets: Sets<WorkerSet, WorkerId>,
}

impl Workers {
    /// One by its number.
    pub(crate) fn get(&self, id: &WorkerId) -> Option<&Worker> {
        self.by_id.get(id)
    }

    /// Each, in the order of their numbers.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Worker> {
        looks::add(self.by_id.len());
        self.by_id.values()
    }

    /// Their numbers, in order.
    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        looks::add(self.by_id.len());
        self.by_id.keys().copied().collect()
    }

    /// The lowest number.
    pub(crate) fn oldest(&self) -> Option<WorkerId> {
        self.by_id.keys().next().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds a worker.
    pub(crate) fn insert(&mut self, worker: Worker) {
        self.sets.file(worker.id, WorkerSet::of(&worker));
        self.by_id.insert(worker.id, worker);
    }

    /// Takes a worker away of which nothing lives.
    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Worker> {
        self.sets.file(id, Vec::new());
        self.by_id.remove(&id)
    }

    /// Changes one worker; None: there is none of this number. Its slot has to be marked too:
    /// [`Supervisor::change_worker`](super::Supervisor::change_worker) does both.
    pub(super) fn change<T>(
        &mut self,
        id: WorkerId,
        change: impl FnOnce(&mut Worker) -> T,
    ) -> Option<T> {
        let worker = self.by_id.get_mut(&id)?;
        let result = change(worker);
        self.sets.file(id, WorkerSet::of(worker));
        Some(result)
    }

    /// How many are in this set.
    pub(crate) fn count(&self, set: WorkerSet) -> usize {
        self.sets.len(set)
    }

    /// Whether one is in this set.
    pub(crate) fn has_any(&self, set: WorkerSet) -> bool {
        !self.sets.is_empty(set)
    }

    /// Those of this set, in the order of their numbers.
    pub(crate) fn members(&self, set: WorkerSet) -> impl Iterator<Item = &Worker> {
        let members = self.sets.members(set);
        members.filter_map(|id| self.by_id.get(&id))
    }

    /// Those that drain, in the order in which they were told.
    pub(crate) fn draining(&self) -> impl Iterator<Item = WorkerId> {
        let last = WorkerSet::DrainsSince(Some(Time(u64::MAX)));
        self.sets
            .members_of_all(WorkerSet::DrainsSince(None)..=last)
    }

    /// The shortest heartbeat timeout of all that are timed.
    pub(crate) fn shortest_timeout(&self) -> Option<Duration> {
        let first = self.sets.names(TIMED).next();
        let Some(WorkerSet::Timed(timeout)) = first else {
            return None;
        };
        Some(timeout)
    }

    /// Those whose heartbeat matters now, in the order of their numbers.
    pub(crate) fn awaited_beats(&self) -> Vec<WorkerId> {
        let timed = self.sets.members_of_all(TIMED);
        let starting = self.sets.members(WorkerSet::AwaitsBeat);
        // No worker is in two of these sets.
        let mut all: Vec<WorkerId> = timed.chain(starting).collect();
        all.sort_unstable();
        all
    }

    /// Those that are timed, and a quarter of whose timeout is shorter than this, in the order of
    /// their numbers.
    pub(crate) fn timed_with_quarter_below(&self, limit: Duration) -> Vec<WorkerId> {
        let is_below = |id: &WorkerId| {
            let worker = self.by_id.get(id);
            let timeout = worker.and_then(|worker| worker.heartbeat.timeout);
            timeout.is_some_and(|timeout| timeout / 4 < limit)
        };
        // The shortest timeouts come first.
        let timed = self.sets.members_of_all(TIMED);
        let mut below: Vec<WorkerId> = timed.take_while(is_below).collect();
        below.sort_unstable();
        below
    }

    /// The highest slot that a worker was started for of which something lives.
    pub(crate) fn highest_slot(&self) -> Option<u32> {
        let slots = WorkerSet::OfSlot(0)..=WorkerSet::OfSlot(u32::MAX);
        let Some(WorkerSet::OfSlot(slot)) = self.sets.names(slots).next_back() else {
            return None;
        };
        Some(slot)
    }

    /// Whether the sets are those that a look at all workers finds.
    pub(super) fn sets_are_current(&self) -> bool {
        self.by_id.values().cloned().collect::<Workers>().sets == self.sets
    }
}

impl FromIterator<Worker> for Workers {
    fn from_iter<I: IntoIterator<Item = Worker>>(workers: I) -> Self {
        let mut all = Workers::default();
        workers.into_iter().for_each(|worker| all.insert(worker));
        all
    }
}
