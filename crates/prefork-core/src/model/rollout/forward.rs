//! Forward: each slot's new worker beside the old one, within `--surge`; the canary first.

use std::rc::Rc;

use crate::model::ids::{Generation, WorkerId};
use crate::model::policy::Policy;
use crate::model::state::Supervisor;
use crate::model::state::rollout::{Direction, Rollout};
use crate::model::state::slot_sets::{Losing, SlotSet};
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    pub(crate) fn roll_forward(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = &self.rollout else { return };
        if rollout.on_probation() {
            return self.settle_probation(turn);
        }
        let (to, policy) = (rollout.to, Rc::clone(&rollout.policy));
        let canary_passed = rollout.canary_passed;
        let slots = self.slots.len();
        let surge = policy.surge.of(slots);
        let reach = if canary_passed { slots } else { slots.min(1) };
        let old = Losing::AllBut(to);
        if surge == 0 {
            self.vacate_next_slot(turn, reach, old);
        } else {
            // `--surge 100%`: no old worker is told anything before all new ones are ready.
            if canary_passed && (surge < slots || self.all_slots_in(SlotSet::HasReady(to))) {
                self.give_slots_to_new(turn, to);
            }
            // After it: a replacement that has taken its slot makes room for the next one to start.
            self.start_replacements(turn, reach, old, (to, policy));
        }
        let settled = canary_passed && self.all_slots_in(SlotSet::ReadyOf(to));
        if let Some(warnings) =
            self.await_rollout_release(turn, settled, |worker| old.has(worker.generation))
        {
            self.rollout_has_every_slot(turn, warnings);
        }
    }

    fn is_ready_of(&self, id: Option<WorkerId>, generation: Generation) -> bool {
        self.worker(id)
            .is_some_and(|worker| worker.generation == generation && worker.is_ready())
    }

    /// The canary has passed once the first new worker has been ready for long enough.
    pub(crate) fn check_canary(&mut self, now: Time) {
        let Some(rollout) = &self.rollout else { return };
        if rollout.canary_passed || rollout.direction != Direction::Forward {
            return;
        }
        let (to, canary) = (rollout.to, rollout.policy.canary);
        let Some(slot) = self.slots.get(0) else {
            return self.canary_passes(None); // no slot, no canary
        };
        let until = [slot.replacement, slot.current]
            .into_iter()
            .filter(|id| self.is_ready_of(*id, to))
            .find_map(|id| {
                let worker = self.worker(id)?;
                Some((
                    id,
                    worker.ready_at? + canary.trial(worker.readiness_guessed),
                ))
            });
        match until {
            None => {}
            Some((_, until)) if now < until => self.timers.set(Timer::Canary, until),
            Some((id, _)) => self.canary_passes(id),
        }
    }

    /// The rollout may go on. `canary`: the worker that has passed, if it lives.
    pub(crate) fn canary_passes(&mut self, canary: Option<WorkerId>) {
        self.timers.clear(Timer::Canary);
        if let Some(rollout) = &mut self.rollout {
            rollout.canary_passed = true;
            rollout.canary = canary;
        }
    }

    /// Whether this worker is the canary and has not been ready for long enough.
    pub(crate) fn is_canary_on_trial(&self, id: WorkerId) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let of_new = self
            .workers
            .get(&id)
            .is_some_and(|worker| worker.generation == rollout.to);
        rollout.direction == Direction::Forward && !rollout.canary_passed && of_new
    }

    /// Whether this worker is the canary of a rollout that goes forward: on trial, or passed.
    pub(crate) fn is_canary(&self, id: WorkerId) -> bool {
        let passed = |rollout: &Rollout| {
            rollout.direction == Direction::Forward && rollout.canary == Some(id)
        };
        self.is_canary_on_trial(id) || self.rollout.as_ref().is_some_and(passed)
    }

    /// Starts replacements for slots whose current worker is `losing`, within `--surge` of
    /// `policy`, lowest slot first.
    pub(crate) fn start_replacements(
        &mut self,
        turn: &mut Turn<'_>,
        reach: usize,
        losing: Losing,
        (generation, policy): (Generation, Rc<Policy>),
    ) {
        let mut room = self.surge_room(&policy);
        let mut from = 0;
        while room > 0
            && let Some(index) = self.next_replaceable_slot(from, losing)
            && index < reach
        {
            from = index + 1;
            let is_down = self.slots[index].down == Some(generation);
            if !is_down && !self.gives_up_slot(index, losing) {
                let worker = self.start_worker(turn, index, generation, Rc::clone(&policy));
                self.slots[index].replacement = Some(worker);
                room -= 1;
            }
        }
    }

    /// Ready new workers take their slots from old ones, unless a slot that was taken in this
    /// rollout has no ready new worker: a release whose workers die must not take one slot after
    /// the other.
    fn give_slots_to_new(&mut self, turn: &mut Turn<'_>, to: Generation) {
        if self.count_slots(SlotSet::GivenReady(to)) < self.count_slots(SlotSet::Given) {
            return;
        }
        for index in self.slots_in(SlotSet::ReplacementReady(to)) {
            self.promote(turn, index);
            self.slots[index].given_to_new = true;
        }
    }

    /// Ready replacements of this generation take their slots; the workers that had them are told
    /// to finish.
    pub(crate) fn promote_ready(&mut self, turn: &mut Turn<'_>, generation: Generation) {
        for index in self.slots_in(SlotSet::ReplacementReady(generation)) {
            self.promote(turn, index);
        }
    }

    /// `--surge 0`: the next slot whose current worker is `losing` is vacated, one at a time;
    /// [`Supervisor::fill_slots`] fills it once the old worker is gone. The others wait until its
    /// new worker is ready, unless the rollout gives up that slot.
    pub(crate) fn vacate_next_slot(&mut self, turn: &mut Turn<'_>, reach: usize, losing: Losing) {
        let between = self.slots_in(SlotSet::Between);
        if !between
            .into_iter()
            .all(|index| self.gives_up_slot(index, losing))
        {
            return;
        }
        let mut from = 0;
        while let Some(index) = self.next_losing_slot(from, losing)
            && index < reach
        {
            if !self.gives_up_slot(index, losing) {
                return self.vacate_slot(turn, index);
            }
            from = index + 1;
        }
    }

    /// Whether the losing worker keeps this slot: a rollback cannot bring the old one back there.
    fn gives_up_slot(&self, index: usize, losing: Losing) -> bool {
        match losing {
            Losing::AllBut(_) => false,
            Losing::Of(_) => self.cannot_roll_back(index),
        }
    }
}
