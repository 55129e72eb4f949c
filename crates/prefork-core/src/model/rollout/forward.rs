//! Forward: each slot's new worker beside the old one, within `--surge`; the canary first.

use std::rc::Rc;

use crate::model::ids::{Generation, WorkerId};
use crate::model::policy::Policy;
use crate::model::state::Supervisor;
use crate::model::state::rollout::Direction;
use crate::model::state::slots::Slot;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::Worker;

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
        let is_old = |worker: &Worker| worker.generation != to;
        if surge == 0 {
            self.vacate_next_slot(turn, reach, is_old);
        } else {
            let has_new = |slot: &Slot| {
                self.is_ready_of(slot.current, to) || self.is_ready_of(slot.replacement, to)
            };
            // `--surge 100%`: no old worker is told anything before all new ones are ready.
            if canary_passed && (surge < slots || self.slots.iter().all(has_new)) {
                self.promote_ready(turn, to);
            }
            // After it: a replacement that has taken its slot makes room for the next one to start.
            self.start_replacements(turn, reach, is_old, (to, policy));
        }
        let settled = canary_passed
            && self
                .slots
                .iter()
                .all(|slot| self.is_ready_of(slot.current, to));
        if let Some(warnings) = self.await_rollout_release(turn, settled, is_old) {
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
        let (Direction::Forward, Some(trial), false) = (
            &rollout.direction,
            rollout.policy.canary,
            rollout.canary_passed,
        ) else {
            return;
        };
        let to = rollout.to;
        let ready_at = self.slots.get(0).map(|slot| {
            [slot.replacement, slot.current]
                .into_iter()
                .filter(|id| self.is_ready_of(*id, to))
                .find_map(|id| self.worker(id)?.ready_at)
        });
        let passed = match ready_at {
            None => true, // no slot, no canary
            Some(None) => false,
            Some(Some(at)) => {
                self.timers.set(Timer::Canary, at + trial);
                now >= at + trial
            }
        };
        if passed {
            self.timers.clear(Timer::Canary);
            if let Some(rollout) = &mut self.rollout {
                rollout.canary_passed = true;
            }
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

    /// Starts replacements for slots whose current worker `must_go`, within `--surge` of `policy`,
    /// lowest slot first.
    pub(crate) fn start_replacements(
        &mut self,
        turn: &mut Turn<'_>,
        reach: usize,
        must_go: impl Fn(&Worker) -> bool,
        (generation, policy): (Generation, Rc<Policy>),
    ) {
        let mut room = self.surge_room(&policy);
        // Most of the time one of these holds, and this runs after every event.
        if room == 0 || !self.workers.values().any(&must_go) {
            return;
        }
        for index in 0..reach {
            let slot = &self.slots[index];
            let needed = slot.replacement.is_none()
                && slot.down != Some(generation)
                && slot.rests_until.is_none()
                && self.worker(slot.current).is_some_and(&must_go);
            if needed && room > 0 {
                let worker = self.start_worker(turn, index, generation, Rc::clone(&policy));
                self.slots[index].replacement = Some(worker);
                room -= 1;
            }
        }
    }

    /// Ready replacements of this generation take their slots; the workers that had them are told
    /// to finish.
    pub(crate) fn promote_ready(&mut self, turn: &mut Turn<'_>, generation: Generation) {
        for index in 0..self.slots.len() {
            if self.is_ready_of(self.slots[index].replacement, generation) {
                self.promote(turn, index);
            }
        }
    }

    /// `--surge 0`: the next slot whose current worker `must_go` is vacated, one at a time;
    /// [`Supervisor::fill_slots`] fills it once the old worker is gone.
    pub(crate) fn vacate_next_slot(
        &mut self,
        turn: &mut Turn<'_>,
        reach: usize,
        must_go: impl Fn(&Worker) -> bool,
    ) {
        let between = |slot: &Slot| {
            slot.blocked_by.is_some()
                || (slot.vacated_for_new && !self.is_ready_worker(slot.current))
        };
        if self.slots.iter().any(between) {
            return;
        }
        let next = (0..reach).find(|index| {
            self.worker(self.slots[*index].current)
                .is_some_and(&must_go)
        });
        if let Some(index) = next {
            self.vacate_slot(turn, index);
        }
    }
}
