//! `restart-worker`: one worker is replaced, the new one ready first (or, with `--surge 0`, the old one gone first).

use super::{Mode, Supervisor};
use crate::model::event::{Action, Level, Outcome, Refusal, Ticket};
use crate::model::policy::StopSeverity;
use crate::model::rollout::listener_release::Release;
use crate::model::state::slots::Restart;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

impl Supervisor {
    /// Begins to replace the worker of one slot. Different slots may be restarted together, within `--surge`.
    pub(crate) fn restart_worker(
        &mut self,
        now: Time,
        slot: u32,
        ticket: Ticket,
        out: &mut Vec<Action>,
    ) {
        let slots = self.slots.len();
        let Some(place) = self.slots.get(slot as usize) else {
            let text = format!("there is no slot {slot}: there are {slots}, counted from 0");
            out.push(Action::Refused(ticket, Refusal::Senseless, text));
            return;
        };
        if let Some(restart) = &place.restart {
            let text = format!("slot {slot} is being restarted by operation {}", restart.op);
            out.push(Action::Refused(ticket, Refusal::Busy, text));
            return;
        }
        if matches!(self.mode, Mode::Paused(_)) {
            out.push(Action::Refused(
                ticket,
                Refusal::Senseless,
                "paused: there is no worker to restart".into(),
            ));
            return;
        }
        let old = place.current;
        let op = self
            .operations
            .begin(now, "restart-worker", Some(ticket), out);
        out.push(Action::note(Level::Info, format!("slot {slot}: restart")));
        out.push(Action::Progress(
            op,
            0,
            1,
            format!("slot {slot} is restarted"),
        ));
        let place = &mut self.slots[slot as usize];
        place.restart = Some(Restart {
            op,
            old,
            failures: 0,
            settled_at: None,
        });
        // Whoever restarts a slot wants it tried now, whatever it failed of before.
        place.down = None;
        place.backoff.reset();
        self.timers.clear(Timer::Backoff(slot));
        if self.policy.surge.of(slots) == 0 && old.is_some() {
            self.empty_slot(now, slot as usize, out);
            self.slots[slot as usize].emptied_for_new = false;
        } else if old.is_none() {
            self.fill_after_restart(now, slot as usize, out);
        }
    }

    /// An empty slot is not replaced but filled.
    fn fill_after_restart(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        if let (Some((generation, policy)), true) =
            (self.filler(index), self.slots[index].blocked_by.is_none())
        {
            let worker = self.start_worker(now, index, generation, policy, out);
            self.slots[index].current = Some(worker);
        }
    }

    /// The next steps of every restart.
    pub(crate) fn settle_restarts(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.rollout.is_some() {
            return;
        }
        let surge = self.policy.surge.of(self.slots.len());
        // Those that are ready first: they make room for others to start.
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.restart.is_some() && self.worker(slot.replacement).is_some_and(Worker::is_ready)
            {
                self.promote(now, index, out);
            }
        }
        for index in 0..self.slots.len() {
            let Some(restart) = self.slots[index].restart.clone() else {
                continue;
            };
            let slot = &self.slots[index];
            let extra = self
                .slots
                .iter()
                .filter(|slot| slot.replacement.is_some())
                .count();
            let old_holds = slot.current.is_some() && slot.current == restart.old;
            if old_holds
                && slot.replacement.is_none()
                && !self.rests(index)
                && extra < surge
                && let Some((generation, policy)) = self.filler(index)
            {
                let worker = self.start_worker(now, index, generation, policy, out);
                self.slots[index].replacement = Some(worker);
            }
            self.end_restart(now, index, out);
        }
    }

    /// A restart is done when a new worker is ready in the slot and the old one accepts no more.
    fn end_restart(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
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
        let since = restart.settled_at.unwrap_or(now);
        match self.let_go(now, since, |worker| Some(worker.id) == restart.old, out) {
            Release::Waiting => {
                if let Some(restart) = &mut self.slots[index].restart {
                    restart.settled_at = Some(since);
                }
            }
            Release::Over(warnings) => {
                self.slots[index].restart = None;
                let message = format!("slot {index}: worker {} is ready", pid.unwrap_or(0));
                self.operations
                    .end(now, restart.op, Outcome::Done(message, warnings), out);
            }
        }
    }

    /// A failed start in a slot that is being restarted: too many end the restart, and the old worker stays.
    pub(crate) fn restart_failed_start(
        &mut self,
        now: Time,
        worker: &Worker,
        exit_message: &str,
        fatal: bool,
        out: &mut Vec<Action>,
    ) {
        let limit = self.policy.start_failures;
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        let Some(restart) = slot
            .restart
            .as_mut()
            .filter(|restart| Some(worker.id) != restart.old)
        else {
            return;
        };
        restart.failures += 1;
        if restart.failures < limit && !fatal {
            return;
        }
        let Some(restart) = slot.restart.take() else {
            return;
        };
        // The old worker still holds the slot: that one of its generation failed elsewhere does not put it down.
        if slot.current.is_some() {
            slot.down = None;
            self.timers.clear(Timer::Backoff(worker.slot));
        }
        let why = format!("{exit_message} ({} failed starts)", restart.failures);
        out.push(Action::note(
            Level::Error,
            format!("restart of slot {}: {why}", worker.slot),
        ));
        self.operations
            .end(now, restart.op, Outcome::Failed(why), out);
    }

    /// A stop ends every restart.
    pub(crate) fn abort_restarts(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            if let Some(restart) = self.slots[index].restart.take() {
                self.operations
                    .end(now, restart.op, Outcome::Aborted(why.to_owned()), out);
            }
        }
    }

    /// Tells every worker the same.
    pub(crate) fn tell_all(&mut self, now: Time, word: StopSeverity, out: &mut Vec<Action>) {
        let all: Vec<_> = self.workers.keys().copied().collect();
        for id in all {
            self.tell(now, id, word, out);
        }
    }
}
