//! What the end of a worker means: for its slot, for the rollout, for whoever asked for it.

use super::Supervisor;
use crate::model::event::{Action, Cause, Ended, LastExit, Level, WorkerId};
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

impl Supervisor {
    /// A worker's leader is gone: empties its place, and if nobody asked for it, counts what that means.
    pub(crate) fn leader_gone(
        &mut self,
        now: Time,
        id: WorkerId,
        exit: LastExit,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let exit_message = worker.exit_message(&exit);
        let level = if worker.asked {
            Level::Info
        } else {
            Level::Warn
        };
        out.push(worker.note(level, exit_message.clone()));
        self.counters.died += u64::from(!worker.asked);
        let trial = self.is_canary_on_trial(id);
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        let held = [&mut slot.current, &mut slot.replacement]
            .into_iter()
            .any(|place| place.take_if(|who| *who == id).is_some());
        let wait = slot.backoff.current();
        let settled = worker.ready_at.is_some_and(|at| exit.at.since(at) > wait);
        let code = match exit.ended {
            Some(Ended::Exited(code)) => Some(code),
            Some(Ended::Signaled(..)) | None => None,
        };
        // Not by what it failed at: one that exits closes its ready fd as well, and that may be seen first.
        let by_itself = exit.cause == Cause::Exited;
        let spawn_failed = exit.cause == Cause::SpawnFailed;
        // One that drains may outlive its successors in the slot, and how these ended is what explains the slot's state.
        let outlived = slot.last_exit.as_ref().is_some_and(|last| last.worker > id);
        if held || !outlived {
            slot.last_exit = Some(exit);
        }
        // Whoever was told to go, or has lost its slot to another, leaves nothing to be made good.
        if worker.asked || !held {
            return;
        }
        slot.restarts += 1;
        if !spawn_failed && self.failed_probation(now, &worker, &exit_message, out) {
            return;
        }
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        let fatal = by_itself && code.is_some_and(|code| worker.policy.fatal_exit.contains(&code));
        if fatal {
            slot.down = Some(worker.generation);
            out.push(Action::note(
                Level::Error,
                format!(
                    "slot {}: that exit code is fatal: not started again",
                    worker.slot
                ),
            ));
        }
        if settled && !trial && !fatal {
            self.failed_in_a_row = 0;
            slot.backoff.reset();
            self.timers.clear(Timer::Backoff(worker.slot));
            return;
        }
        if !fatal {
            let wait = slot.backoff.take(&mut self.dice);
            self.timers.set(Timer::Backoff(worker.slot), now + wait);
        }
        self.failed_start(now, &worker, &exit_message, fatal, out);
    }

    /// A start that came to nothing: whose business it is, and whether it was one too many.
    pub(crate) fn failed_start(
        &mut self,
        now: Time,
        worker: &Worker,
        exit_message: &str,
        fatal: bool,
        out: &mut Vec<Action>,
    ) {
        self.counters.failed_starts += 1;
        let someone_serves = self.workers.values().any(Worker::is_ready);
        self.failed_in_a_row = if someone_serves {
            0
        } else {
            self.failed_in_a_row + 1
        };
        if !self.rollout_failed_start(now, worker, exit_message, fatal, out) {
            self.restart_failed_start(now, worker, exit_message, fatal, out);
            self.scaling_failed_start(now, worker, exit_message, fatal, out);
        }
        let failures = self.failed_in_a_row;
        if self.policy.give_up.is_some_and(|limit| failures >= limit) {
            let reason = format!(
                "gave up after {failures} failed starts in a row with no worker ready: {exit_message}"
            );
            self.stop_because(now, reason, out);
        }
    }
}
