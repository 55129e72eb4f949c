//! Back: the old generation takes its slots again; each new worker is told to finish only when its
//! successor is ready.

use std::rc::Rc;

use crate::model::fact::Fact;
use crate::model::ids::OpId;
use crate::model::operation::Outcome;
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::rollout::{Direction, Rollout, RolloutResult};
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::Worker;

impl Supervisor {
    pub(crate) fn roll_back(&mut self, turn: &mut Turn<'_>) {
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
        let stuck: Vec<bool> = (0..slots)
            .map(|index| self.cannot_roll_back(index))
            .collect();
        let can_go = |slot: u32| stuck.get(slot as usize).is_some_and(|stuck| !stuck);
        let must_go = |worker: &Worker| worker.generation == to && can_go(worker.slot);
        if policy.surge.of(slots) == 0 {
            self.vacate_next_slot(turn, slots, must_go, |index| stuck[index]);
        } else {
            self.promote_ready(turn, from);
            self.start_replacements(turn, slots, must_go, (from, policy));
        }
        let settled = (0..slots).all(|index| {
            let current = self.worker(self.slots[index].current);
            stuck[index]
                || current.is_some_and(|worker| worker.generation != to && worker.is_ready())
        });
        let is_new = |worker: &Worker| worker.generation == to;
        if let Some(warnings) = self.await_rollout_release(turn, settled, is_new) {
            self.rolled_back(turn, warnings);
        }
    }

    /// Whether the old generation cannot be brought back in this slot.
    pub(crate) fn cannot_roll_back(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        slot.rollback_failures >= self.policy.start_failures
            || (slot.down.is_some() && slot.down == self.serving)
    }

    /// Turns a running rollout back.
    pub(crate) fn begin_rollback(
        &mut self,
        turn: &mut Turn<'_>,
        why: String,
        asked_by: Option<OpId>,
    ) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if let Direction::Back(_, ops) = &mut rollout.direction {
            ops.extend(asked_by);
            return;
        }
        let in_new_master = rollout.direction == Direction::Peer;
        rollout.direction = Direction::Back(why.clone(), asked_by.into_iter().collect());
        rollout.all_ready_at = None;
        rollout.probation = None;
        if in_new_master {
            self.old_master_turns_back(turn, &why);
        }
        self.listener_looks = 0;
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.begin_generation(&self.policy);
            // Replacements are not needed: the old workers still have their slots.
            if let Some(id) = slot.replacement.take() {
                self.request_stop(turn, id, StopSeverity::Graceful);
            }
        }
    }

    /// The old generation has every slot that it can have.
    pub(crate) fn rolled_back(&mut self, turn: &mut Turn<'_>, warnings: Vec<String>) {
        if self.awaits_new_master_exit() {
            return;
        }
        let stuck: Vec<String> = (0..self.slots.len())
            .filter(|index| self.cannot_roll_back(*index))
            .map(|index| index.to_string())
            .collect();
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        let Direction::Back(mut why, asked_by) = rollout.direction.clone() else {
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
        let error = Some(why.clone());
        self.last_rollout = Some(rollout.record(turn.now, RolloutResult::RolledBack, error));
        self.forget(turn, rollout.to);
        turn.tell(Fact::RolledBack {
            kind: rollout.kind,
            to: rollout.to,
            why: why.clone(),
        });
        let outcome = Outcome::RolledBack(why.clone());
        turn.end(&mut self.operations, rollout.op, outcome);
        for op in asked_by {
            let outcome = if stuck.is_empty() {
                let serving = self.serving.map_or(0, |serving| serving.0);
                let text = format!("rolled back: generation {serving} serves");
                Outcome::Done(text, warnings.clone())
            } else {
                Outcome::Failed(why.clone())
            };
            turn.end(&mut self.operations, op, outcome);
        }
    }
}
