//! Back: the old generation takes its slots again, each new worker told to finish only when its successor is ready.

use std::rc::Rc;

use super::{Rollout, Way};
use crate::model::event::{Action, Level, OpId, Outcome};
use crate::model::policy::StopSeverity;
use crate::model::supervisor::Supervisor;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

impl Supervisor {
    pub(crate) fn roll_back(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(Rollout {
            to,
            from: Some(from),
            ..
        }) = self.rollout
        else {
            return;
        };
        let policy = Rc::clone(&self.policy);
        let slots = self.slots.len();
        let surge = policy.surge.of(slots);
        let stuck: Vec<bool> = (0..slots).map(|index| self.is_stuck(index)).collect();
        let can_go = |slot: u32| stuck.get(slot as usize).is_some_and(|stuck| !stuck);
        let is_new = |worker: &Worker| worker.generation == to && can_go(worker.slot);
        if surge == 0 {
            self.empty_next_slot(now, slots, is_new, out);
        } else {
            self.promote_ready(now, from, out);
            self.start_replacements(now, slots, surge, is_new, (from, policy), out);
        }
        let settled = (0..slots).all(|index| {
            let current = self.worker(self.slots[index].current);
            stuck[index]
                || current.is_some_and(|worker| worker.generation != to && worker.is_ready())
        });
        let is_new = |worker: &Worker| worker.generation == to;
        if let Some(warnings) = self.let_go_of_rollout(now, settled, is_new, out) {
            self.rolled_back(now, warnings, out);
        }
    }

    /// Whether the old generation cannot be brought back in this slot.
    pub(crate) fn is_stuck(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        slot.failed_back >= self.policy.start_failures
            || (slot.down.is_some() && slot.down == self.serving)
    }

    /// Rolls a running rollout back.
    pub(crate) fn turn_back(
        &mut self,
        now: Time,
        why: String,
        asked_by: Option<OpId>,
        out: &mut Vec<Action>,
    ) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if let Way::Back(_, ops) = &mut rollout.way {
            ops.extend(asked_by);
            return;
        }
        let beside = rollout.way == Way::Beside;
        rollout.way = Way::Back(why.clone(), asked_by.into_iter().collect());
        rollout.settled_at = None;
        rollout.probation = None;
        if beside {
            self.comes_back(&why, out);
        }
        self.listener_looks = 0;
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.emptied_for_new = false;
            slot.failed_back = 0;
            slot.backoff.reset();
            let replacement = slot.replacement.take();
            self.timers.clear(Timer::Backoff(index as u32));
            // New ones that hold no slot are not needed: the old ones are still there.
            if let Some(id) = replacement {
                self.tell(now, id, StopSeverity::Graceful, out);
            }
        }
    }

    pub(crate) fn rolled_back(&mut self, now: Time, warnings: Vec<String>, out: &mut Vec<Action>) {
        if self.waits_for_the_new_one() {
            return;
        }
        let stuck: Vec<String> = (0..self.slots.len())
            .filter(|index| self.is_stuck(*index))
            .map(|index| index.to_string())
            .collect();
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        let Way::Back(mut why, asked_by) = rollout.way.clone() else {
            return;
        };
        if !stuck.is_empty() {
            let from = rollout.from.unwrap_or(rollout.to);
            let slots = stuck.join(", ");
            why.push_str(&format!(
                "; and no worker of generation {from} could be started again in slot {slots}"
            ));
        }
        self.counters.rolled_back += 1;
        self.last_rollout = Some(rollout.record(now, "rolled-back", Some(why.clone())));
        self.forget(rollout.to, out);
        out.push(Action::note(
            Level::Error,
            format!(
                "{} of generation {}: rolled back: {why}",
                rollout.kind, rollout.to
            ),
        ));
        self.operations
            .end(now, rollout.op, Outcome::RolledBack(why.clone()), out);
        for op in asked_by {
            let outcome = if stuck.is_empty() {
                let text = format!(
                    "rolled back: generation {} serves",
                    self.serving.map_or(0, |serving| serving.0)
                );
                Outcome::Done(text, warnings.clone())
            } else {
                Outcome::Failed(why.clone())
            };
            self.operations.end(now, op, outcome, out);
        }
    }
}
