//! Forward: each slot's new worker beside the old one, within `--surge`; the canary first.

use std::rc::Rc;

use super::Way;
use crate::model::event::{Action, Generation, WorkerId};
use crate::model::policy::{Policy, StopSeverity};
use crate::model::supervisor::Supervisor;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

impl Supervisor {
    pub(crate) fn roll_forward(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(rollout) = &self.rollout else { return };
        if rollout.on_probation() {
            return self.settle_probation(now, out);
        }
        let (to, policy, past) = (rollout.to, Rc::clone(&rollout.policy), rollout.canary_past);
        let slots = self.slots.len();
        let surge = policy.surge.of(slots);
        let reach = if past { slots } else { slots.min(1) };
        let is_old = |worker: &Worker| worker.generation != to;
        if surge == 0 {
            self.empty_next_slot(now, reach, is_old, out);
            // It may be that nobody is left who must go first.
        } else {
            let ready = |worker: Option<&Worker>| {
                worker.is_some_and(|w| w.generation == to && w.is_ready())
            };
            let all_ready = || {
                self.slots.iter().all(|slot| {
                    ready(self.worker(slot.current)) || ready(self.worker(slot.replacement))
                })
            };
            // `--surge 100%`: nobody is told anything before all new ones are ready.
            if past && (surge < slots || all_ready()) {
                self.promote_ready(now, to, out);
            }
            // After it: whoever has taken a slot makes room for the next one to start.
            self.start_replacements(now, reach, surge, is_old, (to, policy), out);
        }
        let settled = past
            && self.slots.iter().all(|slot| {
                self.worker(slot.current)
                    .is_some_and(|worker| worker.generation == to && worker.is_ready())
            });
        if let Some(warnings) = self.let_go_of_rollout(now, settled, is_old, out) {
            self.rollout_stands(now, warnings, out);
        }
    }

    /// The canary is past once the first new worker has been ready for long enough.
    pub(crate) fn judge_canary(&mut self, now: Time) {
        let Some(rollout) = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.way == Way::Forward)
        else {
            return;
        };
        let (Some(trial), false) = (rollout.policy.canary, rollout.canary_past) else {
            return;
        };
        let to = rollout.to;
        let ready_at = self.slots.first().map(|slot| {
            let newcomer = [slot.replacement, slot.current].into_iter().find_map(|id| {
                self.worker(id)
                    .filter(|worker| worker.generation == to && worker.is_ready())
            });
            newcomer.and_then(|worker| worker.ready_at)
        });
        let past = match ready_at {
            None => true, // no slot, no canary
            Some(None) => false,
            Some(Some(at)) => {
                self.timers.set(Timer::Canary, at + trial);
                now >= at + trial
            }
        };
        if past {
            self.timers.clear(Timer::Canary);
            if let Some(rollout) = &mut self.rollout {
                rollout.canary_past = true;
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
        rollout.way == Way::Forward && !rollout.canary_past && of_new
    }

    /// Starts replacements for slots whose holder `must_go`, at most `surge` at once, lowest slot first.
    pub(crate) fn start_replacements(
        &mut self,
        now: Time,
        reach: usize,
        surge: usize,
        must_go: impl Fn(&Worker) -> bool,
        (generation, policy): (Generation, Rc<Policy>),
        out: &mut Vec<Action>,
    ) {
        let mut extra = self
            .slots
            .iter()
            .filter(|slot| slot.replacement.is_some())
            .count();
        // Most of the time one of these holds, and this runs after every event.
        if extra >= surge || !self.workers.values().any(&must_go) {
            return;
        }
        for index in 0..reach {
            let slot = &self.slots[index];
            let needed = slot.replacement.is_none()
                && slot.down != Some(generation)
                && self.worker(slot.current).is_some_and(&must_go)
                && !self.rests(index);
            if needed && extra < surge {
                let worker = self.start_worker(now, index, generation, Rc::clone(&policy), out);
                self.slots[index].replacement = Some(worker);
                extra += 1;
            }
        }
    }

    /// Ready replacements of this generation take their slots; their predecessors are told to finish.
    pub(crate) fn promote_ready(
        &mut self,
        now: Time,
        generation: Generation,
        out: &mut Vec<Action>,
    ) {
        for index in 0..self.slots.len() {
            let ready = self
                .worker(self.slots[index].replacement)
                .is_some_and(|worker| worker.generation == generation && worker.is_ready());
            if ready {
                self.promote(now, index, out);
            }
        }
    }

    /// The replacement takes the slot; whoever held it is told to finish.
    pub(crate) fn promote(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        let slot = &mut self.slots[index];
        let Some(replacement) = slot.replacement.take() else {
            return;
        };
        if let Some(old) = slot.current.replace(replacement) {
            self.tell(now, old, StopSeverity::Graceful, out);
        }
    }

    /// `--surge 0`: the next slot whose holder `must_go` is emptied, one at a time; [`Supervisor::fill`] fills it once the
    /// old one is gone.
    pub(crate) fn empty_next_slot(
        &mut self,
        now: Time,
        reach: usize,
        must_go: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) {
        let between = |slot: &crate::model::state::slots::Slot| {
            slot.blocked_by.is_some()
                || (slot.emptied_for_new
                    && !self.worker(slot.current).is_some_and(Worker::is_ready))
        };
        if self.slots.iter().any(between) {
            return;
        }
        let next = (0..reach).find(|index| {
            self.worker(self.slots[*index].current)
                .is_some_and(&must_go)
        });
        if let Some(index) = next {
            self.empty_slot(now, index, out);
        }
    }

    /// The holder is told to finish, and nobody starts in its slot before it is gone.
    pub(crate) fn empty_slot(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        let slot = &mut self.slots[index];
        slot.emptied_for_new = true;
        slot.backoff.reset();
        let old = slot.current.take();
        slot.blocked_by = old;
        self.timers.clear(Timer::Backoff(index as u32));
        if let Some(old) = old {
            self.tell(now, old, StopSeverity::Graceful, out);
        }
    }
}
