//! The slots: who has each, and what is remembered about it between two workers.

use std::cell::RefCell;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::looks;
use crate::model::backoff::{Backoff, Dice};
use crate::model::counters::SlotTotals;
use crate::model::exit::LastExit;
use crate::model::ids::{Generation, OpId, WorkerId};
use crate::model::policy::{PROVEN_AFTER, Policy};
use crate::model::time::Time;

/// One slot.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The worker that has it.
    pub current: Option<WorkerId>,
    /// The worker that is to take it once ready.
    pub replacement: Option<WorkerId>,
    /// No worker starts here before this one is gone (`--surge 0`).
    pub blocked_by: Option<WorkerId>,
    /// Its worker was told to finish for the generation that is being rolled to.
    pub given_to_new: bool,
    /// A worker of this generation ended with a fatal exit code: none of that generation is started
    /// here again.
    pub down: Option<Generation>,
    /// The wait before the next start.
    pub backoff: Backoff,
    /// No worker starts here before then: the wait has begun.
    pub rests_until: Option<Time>,
    /// Failed starts and deaths of the old generation while rolling back.
    pub rollback_failures: u32,
    /// What it keeps for good.
    pub totals: SlotTotals,
    /// How its previous process ended.
    pub last_exit: Option<LastExit>,
    /// The `restart-worker` that is under way here.
    pub restart: Option<SlotRestart>,
}

/// A `restart-worker` under way.
#[derive(Debug, Clone)]
pub struct SlotRestart {
    /// Its operation.
    pub op: OpId,
    /// The worker that is being replaced.
    pub old: Option<WorkerId>,
    /// Failed starts and deaths of the replacement.
    pub failures: u32,
    /// Since when the new worker has the slot, and only the old one's listeners are waited for.
    pub all_ready_at: Option<Time>,
}

impl Slot {
    /// An empty slot.
    pub fn new(policy: &Policy) -> Self {
        Slot {
            current: None,
            replacement: None,
            blocked_by: None,
            given_to_new: false,
            down: None,
            backoff: Backoff::new(policy.backoff),
            rests_until: None,
            rollback_failures: 0,
            totals: SlotTotals::default(),
            last_exit: None,
            restart: None,
        }
    }

    /// Another generation takes over: what went wrong before says nothing about it.
    pub fn begin_generation(&mut self, policy: &Policy) {
        self.given_to_new = false;
        self.rollback_failures = 0;
        self.backoff = Backoff::new(policy.backoff);
        self.rests_until = None;
    }

    /// What went wrong here before does not count any more: the next start may be at once.
    pub fn forgive(&mut self) {
        self.backoff.reset();
        self.rests_until = None;
    }

    /// Its workers: the current one and the replacement. They are taken out of the slot.
    pub fn take_workers(&mut self) -> impl Iterator<Item = WorkerId> + use<> {
        [self.current.take(), self.replacement.take()]
            .into_iter()
            .flatten()
    }
}

/// All slots, from 0 on, with the waits before their next starts. Every slot that is lent for a
/// change is marked, so that `slot_sets` looks at it again.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    all: Vec<Slot>,
    marked: RefCell<Vec<usize>>,
}

impl Slots {
    /// This many empty slots.
    pub fn new(count: usize, policy: &Policy) -> Slots {
        let mut slots = Slots::default();
        slots.grow_to(count, policy);
        slots
    }

    /// Slots as another image had them.
    pub fn taken_over(slots: Vec<Slot>) -> Slots {
        Slots {
            marked: RefCell::new((0..slots.len()).collect()),
            all: slots,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Each, from 0 on.
    pub fn iter(&self) -> std::slice::Iter<'_, Slot> {
        looks::add(self.all.len());
        self.all.iter()
    }

    /// Each, from 0 on.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Slot> {
        looks::add(self.all.len());
        self.marked.get_mut().extend(0..self.all.len());
        self.all.iter_mut()
    }

    /// The slot, or a worker in it, may have changed.
    pub(super) fn mark(&mut self, slot: usize) {
        let marked = self.marked.get_mut();
        if marked.last() != Some(&slot) {
            marked.push(slot);
        }
    }

    /// Takes the marks: the slots that may have changed since the last call.
    pub(super) fn take_marked(&self) -> Vec<usize> {
        self.marked.take()
    }

    /// A slot by its number.
    pub fn get(&self, slot: usize) -> Option<&Slot> {
        self.all.get(slot)
    }

    /// A slot by its number.
    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.mark(slot);
        self.all.get_mut(slot)
    }

    /// Adds empty slots until there are this many.
    pub fn grow_to(&mut self, count: usize, policy: &Policy) {
        if count > self.all.len() {
            self.marked.get_mut().extend(self.all.len()..count);
            self.all.resize_with(count, || Slot::new(policy));
        }
    }

    /// Takes the highest slot away if there are more than this many.
    pub fn shrink_to(&mut self, count: usize) -> Option<Slot> {
        let last = self.all.len().checked_sub(1)?;
        if last < count {
            return None;
        }
        self.mark(last);
        self.all.pop()
    }

    /// A worker died here by itself, after it had been ready for so long (None: it never was): the
    /// wait doubles. Unless the worker was ready for longer than the wait, the slot rests for it.
    /// True: it was.
    pub fn back_off(
        &mut self,
        slot: u32,
        ready_for: Option<Duration>,
        now: Time,
        dice: &mut Dice,
    ) -> bool {
        let Some(slot) = self.get_mut(slot as usize) else {
            return false;
        };
        if ready_for.is_some_and(|ready_for| ready_for >= PROVEN_AFTER) {
            slot.backoff.reset();
        }
        let lasted = ready_for.is_some_and(|ready_for| ready_for > slot.backoff.current());
        let wait = slot.backoff.take(dice);
        slot.rests_until = (!lasted).then_some(now + wait);
        lasted
    }

    /// The slot need not rest any longer; its wait stays as long as it is.
    pub fn end_rest(&mut self, slot: u32) {
        if let Some(slot) = self.get_mut(slot as usize) {
            slot.rests_until = None;
        }
    }

    /// Whether the slot waits before its next start.
    pub fn rests(&self, slot: usize) -> bool {
        self.all
            .get(slot)
            .is_some_and(|slot| slot.rests_until.is_some())
    }
}

impl Index<usize> for Slots {
    type Output = Slot;

    fn index(&self, slot: usize) -> &Slot {
        looks::add(1);
        &self.all[slot]
    }
}

impl IndexMut<usize> for Slots {
    fn index_mut(&mut self, slot: usize) -> &mut Slot {
        self.mark(slot);
        &mut self.all[slot]
    }
}
