//! Back: the old generation takes its slots again; each new worker is told to finish only when its
//! successor is ready.

use std::rc::Rc;

use crate::model::action::{PinSource, Refusal};
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::{Generation, OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::rollout::{Direction, Rollout, RolloutResult};
use crate::model::state::slot_sets::{Losing, SlotSet};
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    /// `rollback`: ends a running rollout, or rolls to the release before, under a new number:
    /// numbers are never used twice. `to`: to the release of this generation.
    pub(crate) fn rollback(&mut self, turn: &mut Turn<'_>, ticket: Ticket, to: Option<Generation>) {
        if self.rollout.is_some() {
            return self.end_rollout_by_rollback(turn, ticket, to);
        }
        let refused = match to {
            None => match self.releases.before() {
                Some(before) => return self.roll_to_release(turn, ticket, before),
                None if self.releases.kept.is_empty() => {
                    "there is no release before this one".to_owned()
                }
                None => "there is no release before this one that was not rolled back itself \
                         (rollback --to names one)"
                    .to_owned(),
            },
            Some(to) => match self.releases.kept_like(to) {
                Some(kept) => return self.roll_to_release(turn, ticket, kept),
                None if self.serves_release_of(to) => return self.serves_already(turn, ticket),
                None => format!("the release of generation {to} is not kept (see history)"),
            },
        };
        turn.refuse(ticket, Refusal::Senseless, refused);
    }

    fn roll_to_release(&mut self, turn: &mut Turn<'_>, ticket: Ticket, to: Generation) {
        let source = PinSource::Of(to);
        self.pin(turn, OperationKind::Rollback, source, Some(ticket));
    }

    fn serves_release_of(&self, generation: Generation) -> bool {
        let release = self.releases.release_of(generation);
        let serving = self.serving.and_then(|it| self.releases.release_of(it));
        release.is_some() && release == serving
    }

    fn serves_already(&mut self, turn: &mut Turn<'_>, ticket: Ticket) {
        let op = turn.begin(&mut self.operations, OperationKind::Rollback, Some(ticket));
        let serving = self.serving.map(|serving| self.releases.name(serving));
        let text = format!("{} serves already", serving.unwrap_or_default());
        turn.end(&mut self.operations, op, Outcome::done(text));
    }

    fn end_rollout_by_rollback(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        to: Option<Generation>,
    ) {
        // A new master beside an old one goes back to what that serves from.
        let old = self
            .serving
            .or(self.releases.kept.last().map(|it| it.generation));
        let release = |generation| self.releases.release_of(generation);
        if to.is_some_and(|to| old.and_then(release) != release(to)) {
            let busy = self.busy_for_client().unwrap_or_default();
            return turn.refuse(ticket, Refusal::Busy, busy);
        }
        if self.rollback_to_old_master(turn, ticket) {
            return;
        }
        let Some(rollout) = &self.rollout else { return };
        if rollout.from.is_none() {
            let text = "the first rollout has no generation to go back to";
            return turn.refuse(ticket, Refusal::Senseless, text);
        }
        if let Some(why) = self.why_no_way_back() {
            return turn.refuse(ticket, Refusal::Busy, why);
        }
        let (slots, to) = (self.slots.len(), rollout.to);
        let op = turn.begin(&mut self.operations, OperationKind::Rollback, Some(ticket));
        turn.progress(op, 0, slots, format!("generation {to} is rolled back"));
        let why = format!("it was asked for by a rollback, operation {op}");
        self.begin_rollback(turn, why, Some(op));
    }

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
        let new = Losing::Of(to);
        if policy.surge.of(slots) == 0 {
            self.vacate_next_slot(turn, slots, new);
        } else {
            self.promote_ready(turn, from);
            self.start_replacements(turn, slots, new, (from, policy));
        }
        let back = self.count_slots(SlotSet::Ready) - self.count_slots(SlotSet::ReadyOf(to));
        let mut stuck = self.stuck_slots();
        stuck.retain(|index| !self.is_back(*index, to));
        let settled = back + stuck.len() == slots;
        if let Some(warnings) =
            self.await_rollout_release(turn, settled, |worker| new.has(worker.generation))
        {
            self.rolled_back(turn, warnings);
        }
    }

    /// Whether the slot's worker is ready and not of the generation that is being left.
    fn is_back(&self, index: usize, left: Generation) -> bool {
        let current = self.worker(self.slots[index].current);
        current.is_some_and(|worker| worker.generation != left && worker.is_ready())
    }

    /// The slots in which the old generation cannot be brought back.
    fn stuck_slots(&self) -> Vec<usize> {
        let mut troubled = self.slots_in(SlotSet::Troubled);
        troubled.retain(|index| self.cannot_roll_back(*index));
        troubled
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
                self.request_stop(turn, id, StopSeverity::Graceful, StopReason::RollingBack);
            }
        }
    }

    /// The old generation has every slot that it can have.
    pub(crate) fn rolled_back(&mut self, turn: &mut Turn<'_>, warnings: Vec<String>) {
        if self.awaits_new_master_exit() {
            return;
        }
        let stuck = self.stuck_slots();
        let stuck: Vec<String> = stuck.iter().map(usize::to_string).collect();
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
        self.end_record(turn.now, &rollout, RolloutResult::RolledBack, error);
        self.forget(turn, rollout.to);
        self.added_listeners_are_closed(turn, &rollout);
        turn.tell(Fact::RolledBack {
            op: rollout.op,
            kind: rollout.kind,
            from: rollout.from,
            to: rollout.to,
            why: why.clone(),
        });
        let outcome = Outcome::RolledBack(why.clone());
        turn.end(&mut self.operations, rollout.op, outcome);
        for op in asked_by {
            let outcome = if stuck.is_empty() {
                Outcome::Done(self.what_serves(), warnings.clone())
            } else {
                Outcome::Failed(why.clone())
            };
            turn.end(&mut self.operations, op, outcome);
        }
    }
}
