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
            self.vacate_next_slot(turn, reach, is_old, |_| false);
        } else {
            let has_new = |slot: &Slot| {
                self.is_ready_of(slot.current, to) || self.is_ready_of(slot.replacement, to)
            };
            // `--surge 100%`: no old worker is told anything before all new ones are ready.
            if canary_passed && (surge < slots || self.slots.iter().all(has_new)) {
                self.give_slots_to_new(turn, to);
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
        if rollout.canary_passed || rollout.direction != Direction::Forward {
            return;
        }
        let (to, canary) = (rollout.to, rollout.policy.canary);
        let Some(slot) = self.slots.get(0) else {
            return self.canary_passes(); // no slot, no canary
        };
        let until = [slot.replacement, slot.current]
            .into_iter()
            .filter(|id| self.is_ready_of(*id, to))
            .find_map(|id| {
                let worker = self.worker(id)?;
                Some(worker.ready_at? + canary.trial(worker.readiness_guessed))
            });
        match until {
            None => {}
            Some(until) if now < until => self.timers.set(Timer::Canary, until),
            Some(_) => self.canary_passes(),
        }
    }

    /// The rollout may go on.
    pub(crate) fn canary_passes(&mut self) {
        self.timers.clear(Timer::Canary);
        if let Some(rollout) = &mut self.rollout {
            rollout.canary_passed = true;
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

    /// Ready new workers take their slots from old ones, unless a slot that was taken in this
    /// rollout has no ready new worker: a release whose workers die must not take one slot after
    /// the other.
    fn give_slots_to_new(&mut self, turn: &mut Turn<'_>, to: Generation) {
        let has_hole = |slot: &Slot| slot.given_to_new && !self.is_ready_of(slot.current, to);
        if self.slots.iter().any(has_hole) {
            return;
        }
        for index in 0..self.slots.len() {
            if self.is_ready_of(self.slots[index].replacement, to) {
                self.promote(turn, index);
                self.slots[index].given_to_new = true;
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
    /// [`Supervisor::fill_slots`] fills it once the old worker is gone. The others wait until its
    /// new worker is ready, unless the rollout `gives_up` that slot.
    pub(crate) fn vacate_next_slot(
        &mut self,
        turn: &mut Turn<'_>,
        reach: usize,
        must_go: impl Fn(&Worker) -> bool,
        gives_up: impl Fn(usize) -> bool,
    ) {
        let between = |slot: &Slot| {
            slot.blocked_by.is_some() || (slot.given_to_new && !self.is_ready_worker(slot.current))
        };
        if (0..self.slots.len()).any(|index| between(&self.slots[index]) && !gives_up(index)) {
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
