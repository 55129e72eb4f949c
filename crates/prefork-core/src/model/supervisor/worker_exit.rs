//! What the end of a worker means: for its slot, for the rollout, for a request that waits.

use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::fact::Fact;
use crate::model::ids::WorkerId;
use crate::model::state::Supervisor;
use crate::model::turn::Turn;
use crate::model::worker::Worker;
use crate::model::worker::exit::FailedStart;

impl Supervisor {
    /// A worker's leader is gone: empties its slot, and if the master did not ask for that, counts
    /// what it means. This is also where a `kill -9` of a starting worker ends up.
    pub(crate) fn leader_gone(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: LastExit) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let explained = worker.explain_exit(&exit);
        turn.tell(Fact::WorkerExited(explained.clone()));
        self.counters.died += u64::from(!worker.asked);
        let trial = self.is_canary_on_trial(id);
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        let had_slot = [&mut slot.current, &mut slot.replacement]
            .into_iter()
            .any(|place| place.take_if(|worker| *worker == id).is_some());
        let wait = slot.backoff.current();
        let outlived_wait = worker.ready_at.is_some_and(|at| exit.at.since(at) > wait);
        let (cause, code) = (exit.cause, exit_code(&exit));
        // A worker that drains may outlive its successors in the slot, and how these ended is what
        // explains the slot's state.
        let superseded = slot.last_exit.as_ref().is_some_and(|last| last.worker > id);
        if had_slot || !superseded {
            slot.last_exit = Some(exit);
        }
        // A worker that was told to finish, or has lost its slot to another, leaves nothing to be
        // made good.
        if worker.asked || !had_slot {
            return;
        }
        slot.restarts += 1;
        if cause != Cause::SpawnFailed && self.failed_probation(turn, &worker, &explained) {
            return;
        }
        // Judged by the cause, not by `failure`: a worker that exits closes its ready fd as well,
        // and that may be seen first.
        let fatal = cause == Cause::Exited
            && code.is_some_and(|code| worker.policy.fatal_exit.contains(&code));
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        if fatal {
            slot.down = Some(worker.generation);
            turn.tell(Fact::SlotDown(worker.slot));
        } else if outlived_wait && !trial {
            slot.forgive();
            self.consecutive_failed_starts = 0;
            return;
        } else {
            self.slots.rest(worker.slot, turn.now, &mut self.dice);
        }
        let failed = FailedStart {
            worker: &worker,
            exit: &explained,
            fatal,
        };
        self.failed_start(turn, &failed);
    }

    /// A start came to nothing: whose business it is, and whether it was one too many.
    fn failed_start(&mut self, turn: &mut Turn<'_>, failed: &FailedStart<'_>) {
        self.counters.failed_starts += 1;
        let service_is_up = self.workers.values().any(Worker::is_ready);
        self.consecutive_failed_starts = if service_is_up {
            0
        } else {
            self.consecutive_failed_starts + 1
        };
        if !self.rollout_failed_start(turn, failed) {
            self.restart_failed_start(turn, failed);
            self.scaling_failed_start(turn, failed);
        }
        let failures = self.consecutive_failed_starts;
        if self.policy.give_up.is_some_and(|limit| failures >= limit) {
            let exit = failed.exit;
            let reason = format!(
                "gave up after {failures} failed starts in a row with no worker ready: {exit}"
            );
            self.stop_because(turn, reason);
        }
    }
}

fn exit_code(exit: &LastExit) -> Option<i32> {
    match exit.ended {
        Some(ExitStatus::Exited(code)) => Some(code),
        Some(ExitStatus::Signaled(..)) | None => None,
    }
}
