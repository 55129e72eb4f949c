//! What is asked of all slots at once, kept as sets of slots.
//!
//! A slot that may have changed, itself or a worker in it, is marked ([`Slots::mark`]); the next
//! question files the marked slots anew, and no others.

use super::Supervisor;
use super::sets::Sets;
use super::slots::{Slot, Slots};
use super::workers::Workers;
use crate::model::ids::{Generation, WorkerId};
use crate::model::time::Time;
use crate::model::worker::Worker;

/// A set of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotSet {
    /// No worker has it, and it may get one now: a replacement that starts already, or a new one
    /// where the slot does not rest.
    Vacant,
    /// A replacement is beside the current worker: what `--surge` limits.
    HasReplacement,
    /// A `restart-worker` is under way here.
    Restarting,
    /// It is being vacated, or was given to the new generation, and has no ready worker.
    Between,
    /// It was given to the generation that is being rolled to.
    Given,
    /// The same, and its worker is ready and of this generation.
    GivenReady(Generation),
    /// Its worker is ready.
    Ready,
    /// Its worker is ready and of this generation.
    ReadyOf(Generation),
    /// Its worker, or the replacement, is ready and of this generation.
    HasReady(Generation),
    /// Its worker is ready, and neither stopped nor traced.
    Serves,
    /// Its worker, or the replacement, serves and is of this generation.
    HasServing(Generation),
    /// Its replacement is ready and of this generation.
    ReplacementReady(Generation),
    /// Its worker is ready, or none is started here again.
    ReadyOrDown,
    /// Something failed here that may keep a rollback from it.
    Troubled,
    /// Its worker is of this generation.
    HeldBy(Generation),
    /// The same, and a replacement may be started beside it.
    Replaceable(Generation),
    /// No worker starts here before then.
    RestsUntil(Time),
}

impl SlotSet {
    /// The sets that this slot is in.
    fn of(slot: &Slot, workers: &Workers) -> Vec<SlotSet> {
        let worker = |id: Option<WorkerId>| id.and_then(|id| workers.get(&id));
        let (current, replacement) = (worker(slot.current), worker(slot.replacement));
        let rests = slot.rests_until.is_some();
        let ready = current.is_some_and(Worker::is_ready);
        let is_free = slot.current.is_none() && slot.blocked_by.is_none();
        let is_between = slot.blocked_by.is_some() || (slot.given_to_new && !ready);
        let is_troubled = slot.down.is_some() || slot.rollback_failures > 0;
        let mut sets = Vec::new();
        for (set, is_in) in [
            (
                SlotSet::Vacant,
                is_free && (!rests || slot.replacement.is_some()),
            ),
            (SlotSet::HasReplacement, slot.replacement.is_some()),
            (SlotSet::Restarting, slot.restart.is_some()),
            (SlotSet::Between, is_between),
            (SlotSet::Given, slot.given_to_new),
            (SlotSet::ReadyOrDown, ready || slot.down.is_some()),
            (SlotSet::Troubled, is_troubled),
        ] {
            sets.extend(is_in.then_some(set));
        }
        sets.extend(slot.rests_until.map(SlotSet::RestsUntil));
        if let Some(current) = current {
            let generation = current.generation;
            sets.push(SlotSet::HeldBy(generation));
            if slot.replacement.is_none() && !rests {
                sets.push(SlotSet::Replaceable(generation));
            }
            if ready {
                sets.extend([SlotSet::Ready, SlotSet::ReadyOf(generation)]);
                let given = SlotSet::GivenReady(generation);
                sets.extend(slot.given_to_new.then_some(given));
                sets.extend((!current.is_held()).then_some(SlotSet::Serves));
            }
        }
        let ready_replacement = replacement.filter(|worker| worker.is_ready());
        sets.extend(ready_replacement.map(|it| SlotSet::ReplacementReady(it.generation)));
        for worker in [current.filter(|_| ready), ready_replacement] {
            let Some(worker) = worker else { continue };
            sets.push(SlotSet::HasReady(worker.generation));
            let serving = SlotSet::HasServing(worker.generation);
            sets.extend((!worker.is_held()).then_some(serving));
        }
        sets
    }
}

/// Which workers a rollout replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Losing {
    /// Those of every other generation than this one: it goes forward.
    AllBut(Generation),
    /// Those of this generation: it goes back.
    Of(Generation),
}

impl Losing {
    /// Whether a worker of this generation is replaced.
    pub(crate) fn has(self, generation: Generation) -> bool {
        match self {
            Losing::AllBut(winning) => generation != winning,
            Losing::Of(losing) => generation == losing,
        }
    }
}

/// All slots, in their sets.
pub(crate) type SlotSets = Sets<SlotSet, usize>;

fn file_marked(sets: &mut SlotSets, slots: &Slots, workers: &Workers) {
    for index in slots.take_marked() {
        let slot = slots.get(index);
        // Without a slot: it was scaled away.
        let now = slot.map_or_else(Vec::new, |slot| SlotSet::of(slot, workers));
        sets.file(index, now);
    }
}

impl Supervisor {
    /// Asks about all slots at once, as they are now. `ask` must not ask again.
    fn ask_slots<T>(&self, ask: impl FnOnce(&SlotSets) -> T) -> T {
        let mut sets = self.slot_sets.borrow_mut();
        file_marked(&mut sets, &self.slots, &self.workers);
        ask(&sets)
    }

    /// How many slots are in this set.
    pub(crate) fn count_slots(&self, set: SlotSet) -> usize {
        self.ask_slots(|sets| sets.len(set))
    }

    /// The slots of this set, in order.
    pub(crate) fn slots_in(&self, set: SlotSet) -> Vec<usize> {
        self.ask_slots(|sets| sets.members(set).collect())
    }

    /// The first slot of this set.
    pub(crate) fn first_slot_in(&self, set: SlotSet) -> Option<usize> {
        self.ask_slots(|sets| sets.next_member(set, 0))
    }

    /// Whether every slot is in this set.
    pub(crate) fn all_slots_in(&self, set: SlotSet) -> bool {
        self.count_slots(set) == self.slots.len()
    }

    /// When the first of the resting slots may start a worker.
    pub(crate) fn next_start(&self) -> Option<Time> {
        let resting = SlotSet::RestsUntil(Time(0))..=SlotSet::RestsUntil(Time(u64::MAX));
        let first = self.ask_slots(|sets| sets.names(resting).next());
        let Some(SlotSet::RestsUntil(until)) = first else {
            return None;
        };
        Some(until)
    }

    /// Ends every rest whose time has come.
    pub(crate) fn wake_slots(&mut self, now: Time) {
        let rested = SlotSet::RestsUntil(Time(0))..=SlotSet::RestsUntil(now);
        let rested: Vec<usize> = self.ask_slots(|sets| sets.members_of_all(rested).collect());
        for index in rested {
            self.slots[index].rests_until = None;
        }
    }

    /// The first slot from `from` on whose worker is `losing`.
    pub(crate) fn next_losing_slot(&self, from: usize, losing: Losing) -> Option<usize> {
        self.ask_slots(|sets| next_losing(sets, SlotSet::HeldBy, from, losing))
    }

    /// The same of those beside whose worker a replacement may be started.
    pub(crate) fn next_replaceable_slot(&self, from: usize, losing: Losing) -> Option<usize> {
        self.ask_slots(|sets| next_losing(sets, SlotSet::Replaceable, from, losing))
    }

    /// For tests: whether the sets are those that a look at all slots and workers finds.
    pub fn sets_are_current(&self) -> bool {
        let anew = Slots::taken_over(self.slots.iter().cloned().collect());
        let mut expected = SlotSets::default();
        file_marked(&mut expected, &anew, &self.workers);
        self.workers.sets_are_current() && self.ask_slots(|sets| *sets == expected)
    }
}

/// The first slot from `from` on in a set of this kind whose generation is `losing`.
fn next_losing(
    sets: &SlotSets,
    kind: fn(Generation) -> SlotSet,
    from: usize,
    losing: Losing,
) -> Option<usize> {
    match losing {
        Losing::Of(losing) => sets.next_member(kind(losing), from),
        Losing::AllBut(winning) => sets
            .names(kind(Generation(0))..=kind(Generation(u64::MAX)))
            .filter(|set| *set != kind(winning))
            .filter_map(|set| sets.next_member(set, from))
            .min(),
    }
}
