//! `restart-worker`: one worker is replaced, the new one ready first (or, with `--surge 0`, the old
//! one gone first).

use crate::model::action::Refusal;
use crate::model::fact::Fact;
use crate::model::ids::Ticket;
use crate::model::operation::{OperationKind, Outcome};
use crate::model::state::Supervisor;
use crate::model::state::rollout::Release;
use crate::model::state::slot_sets::SlotSet;
use crate::model::state::slots::SlotRestart;
use crate::model::turn::Turn;
use crate::model::worker::exit::Death;

impl Supervisor {
    /// Begins to replace the worker of one slot. Different slots may be restarted together, within
    /// `--surge`.
    pub(crate) fn restart_worker(&mut self, turn: &mut Turn<'_>, slot: u32, ticket: Ticket) {
        let slots = self.slots.len();
        let Some(place) = self.slots.get(slot as usize) else {
            let text = format!("there is no slot {slot}: there are {slots}, counted from 0");
            turn.refuse(ticket, Refusal::Senseless, text);
            return;
        };
        if let Some(restart) = &place.restart {
            let op = restart.op;
            let text = format!(
                "slot {slot} is being restarted by operation {op} (wait --op {op} waits for it)"
            );
            turn.refuse(ticket, Refusal::Busy, text);
            return;
        }
        if self.mode.is_paused() {
            let text = "paused: there is no worker to restart";
            return turn.refuse(ticket, Refusal::Senseless, text);
        }
        let old = place.current;
        let op = turn.begin(
            &mut self.operations,
            OperationKind::RestartWorker,
            Some(ticket),
        );
        turn.tell(Fact::RestartBegan(slot));
        turn.progress(op, 0, 1, format!("slot {slot} is restarted"));
        let place = &mut self.slots[slot as usize];
        place.restart = Some(SlotRestart {
            op,
            old,
            failures: 0,
            all_ready_at: None,
        });
        // A restart is tried now, also where starts failed in this slot before.
        place.down = None;
        place.forgive();
        if self.policy.surge.of(slots) == 0 && old.is_some() {
            self.vacate_slot(turn, slot as usize);
            self.slots[slot as usize].given_to_new = false;
        } else if old.is_none() {
            self.fill_after_restart(turn, slot as usize);
        }
    }

    /// An empty slot is not replaced but filled.
    fn fill_after_restart(&mut self, turn: &mut Turn<'_>, index: usize) {
        if let (Some((generation, policy)), true) = (
            self.generation_for_empty_slot(index),
            self.slots[index].blocked_by.is_none(),
        ) {
            let worker = self.start_worker(turn, index, generation, policy);
            self.slots[index].current = Some(worker);
        }
    }

    /// The next steps of every restart.
    pub(crate) fn settle_restarts(&mut self, turn: &mut Turn<'_>) {
        if self.rollout.is_some() {
            return;
        }
        let restarting = self.slots_in(SlotSet::Restarting);
        // Those that are ready first: they make room for others to start.
        for index in restarting.iter().copied() {
            if self.is_ready_worker(self.slots[index].replacement) {
                self.promote(turn, index);
            }
        }
        for index in restarting {
            let Some(restart) = self.slots[index].restart.clone() else {
                continue;
            };
            let slot = &self.slots[index];
            let old_has_slot = slot.current.is_some() && slot.current == restart.old;
            if old_has_slot
                && slot.replacement.is_none()
                && slot.rests_until.is_none()
                && self.surge_room(&self.policy) > 0
                && let Some((generation, policy)) = self.generation_for_empty_slot(index)
            {
                let worker = self.start_worker(turn, index, generation, policy);
                self.slots[index].replacement = Some(worker);
            }
            self.end_restart(turn, index);
        }
    }

    /// A restart is done when a new worker is ready in the slot and the old one accepts no more.
    fn end_restart(&mut self, turn: &mut Turn<'_>, index: usize) {
        let slot = &self.slots[index];
        let Some(restart) = slot.restart.clone() else {
            return;
        };
        let current = self.worker(slot.current);
        let Some(pid) = current
            .filter(|worker| worker.is_ready() && Some(worker.id) != restart.old)
            .map(|w| w.pid)
        else {
            return;
        };
        let since = restart.all_ready_at.unwrap_or(turn.now);
        match self.await_release(turn, since, |worker| Some(worker.id) == restart.old) {
            Release::Waiting => {
                if let Some(restart) = &mut self.slots[index].restart {
                    restart.all_ready_at = Some(since);
                }
            }
            Release::Over(warnings) => {
                self.slots[index].restart = None;
                let message = format!("slot {index}: worker {} is ready", pid.unwrap_or(0));
                turn.end(
                    &mut self.operations,
                    restart.op,
                    Outcome::Done(message, warnings),
                );
            }
        }
    }

    /// A worker died by itself in a slot that is being restarted. Too many deaths of new ones end
    /// the restart, and so does a fatal exit code once no worker is left: none is started there
    /// again.
    pub(crate) fn death_in_restart(&mut self, turn: &mut Turn<'_>, death: &Death<'_>) {
        let (exit, number) = (death.exit, death.worker.slot);
        let limit = self.policy.start_failures;
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        let is_empty = slot.current.is_none() && slot.replacement.is_none();
        let is_lost = is_empty && slot.down.is_some();
        let Some(restart) = &mut slot.restart else {
            return;
        };
        let is_new = Some(death.worker.id) != restart.old;
        restart.failures += u32::from(is_new);
        let failures = restart.failures;
        if !(is_lost || (is_new && (failures >= limit || death.fatal))) {
            return;
        }
        // The old worker still has the slot: the failed replacement does not put the slot down.
        if slot.current.is_some() {
            slot.down = None;
            slot.rests_until = None;
        }
        let plural = if failures == 1 { "" } else { "s" };
        let why = if death.fatal {
            format!("{exit}, and that exit code is fatal")
        } else if is_lost {
            format!("{exit}, and the slot is down since a fatal exit code")
        } else {
            format!("{exit} ({failures} failed start{plural})")
        };
        self.restart_failed(turn, number as usize, why);
    }

    fn restart_failed(&mut self, turn: &mut Turn<'_>, index: usize, why: String) {
        if let Some(restart) = self.slots[index].restart.take() {
            turn.tell(Fact::RestartFailed(index as u32, why.clone()));
            turn.end(&mut self.operations, restart.op, Outcome::Failed(why));
        }
    }

    /// The workers are sent away: there is none to restart any more.
    pub(crate) fn restarts_fail(&mut self, turn: &mut Turn<'_>, why: &str) {
        for index in self.slots_in(SlotSet::Restarting) {
            self.restart_failed(turn, index, why.to_owned());
        }
    }

    /// A stop ends every restart.
    pub(crate) fn abort_restarts(&mut self, turn: &mut Turn<'_>, why: &str) {
        for index in self.slots_in(SlotSet::Restarting) {
            if let Some(restart) = self.slots[index].restart.take() {
                turn.end(
                    &mut self.operations,
                    restart.op,
                    Outcome::Aborted(why.to_owned()),
                );
            }
        }
    }
}
