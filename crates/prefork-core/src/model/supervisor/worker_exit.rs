//! What the end of a worker means: for its slot, for the rollout, for a request that waits.
//!
//! A worker that was asked to end leaves nothing to be made good. One that *finished* (it said so,
//! and exited 0) is replaced at once. Any other has died by itself: its slot backs off, and the
//! death counts for the operation that started the worker.

use crate::model::exit::{Cause, ExitStatus, LastExit, OomCount, OomReading};
use crate::model::fact::Fact;
use crate::model::ids::WorkerId;
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::workers::WorkerSet;
use crate::model::time::Time;
use crate::model::turn::Turn;
use crate::model::worker::Worker;
use crate::model::worker::exit::Death;

impl Supervisor {
    /// A count of OOM kills was read.
    pub(crate) fn oom_kills(&mut self, now: Time, reading: OomReading, count: OomCount) {
        match reading {
            OomReading::AtStart => self.oom.begin(count),
            OomReading::AfterKill(id) => {
                let group = count.group.clone();
                self.oom.read(now, count);
                self.explain_kill(now, id, &group);
            }
            OomReading::AfterExit => self.oom.pass_over(now, count),
        }
    }

    /// A worker of this cgroup has died of a KILL: if the master did not send it, and the count of
    /// OOM kills has risen, that was the reason.
    fn explain_kill(&mut self, now: Time, id: WorkerId, group: &str) {
        let is_ours = |worker: &Worker| {
            // A worker that dies before it is ready closes its ready fd by that, which is a reason
            // for a KILL, and may be seen first.
            let start_failed = worker.killed_for.map(|(cause, _)| cause);
            let had_time = worker.start_by.is_none_or(|by| now < by);
            let closed_by_death = start_failed == Some(Cause::KilledStartTimeout) && had_time;
            let is_killed = worker.phase.told() == Some(StopSeverity::Kill);
            (worker.killed_for.is_some() || is_killed) && !closed_by_death
        };
        let is_foreign = self.workers.get(&id).is_some_and(|worker| !is_ours(worker));
        if is_foreign && self.oom.explains(now, group) {
            self.change_worker(id, |worker| worker.out_of_memory = true);
        }
    }

    /// A worker's leader is gone: empties its slot, and if the master did not ask for that, counts
    /// what it means. This is also where a `kill -9` of a starting worker ends up.
    pub(crate) fn leader_gone(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: LastExit) {
        let Some(worker) = self.workers.get(&id).cloned() else {
            return;
        };
        let explained = worker.explain_exit(&exit);
        turn.tell(Fact::WorkerExited(explained.clone()));
        self.counters.exits.add(exit.cause, 1);
        self.counters.died += u64::from(!worker.asked && !explained.finished);
        let was_ready = worker.ready_at.is_some();
        let was_canary = self.is_canary(id) && was_ready;
        let on_trial = self.is_canary_on_trial(id) && was_ready;
        let Some(slot) = self.slots.get_mut(worker.slot as usize) else {
            return;
        };
        let was_current = slot.current.take_if(|known| *known == id).is_some();
        let was_replacement = slot.replacement.take_if(|known| *known == id).is_some();
        let had_slot = was_current || was_replacement;
        // A worker that drains may outlive its successors in the slot, and how these ended is what
        // explains the slot's state.
        let superseded = slot.last_exit.as_ref().is_some_and(|last| last.worker > id);
        if had_slot || !superseded {
            slot.last_exit = Some(exit.clone());
        }
        // A worker that was told to finish, or has lost its slot to another, leaves nothing to be
        // made good.
        if worker.asked || !had_slot {
            return;
        }
        // Judged by the cause, not by `failure`: a worker that exits closes its ready fd as well,
        // and that may be seen first.
        let fatal = exit.cause == Cause::Exited
            && exit_code(&exit).is_some_and(|code| worker.policy.fatal_exit.contains(&code));
        if explained.finished && !fatal {
            return self.worker_finished(turn, &worker, on_trial);
        }
        // A replacement never had the slot: its end is no restart of the worker that has it.
        slot.totals.restarts += u64::from(was_current);
        let lasted = if fatal {
            slot.down = Some(worker.generation);
            turn.tell(Fact::SlotDown(worker.slot));
            false
        } else {
            let ready_for = worker.ready_for(&exit);
            let dice = &mut self.dice;
            self.slots.back_off(worker.slot, ready_for, turn.now, dice)
        };
        self.tell_wait(turn, worker.slot);
        self.count_failed_start(!lasted);
        self.worker_died(
            turn,
            &Death {
                worker: &worker,
                exit: &explained,
                fatal,
                was_canary,
            },
        );
    }

    /// A worker has finished: its slot is filled again at once, but starts at most one in the
    /// shortest wait, and a canary that finishes has passed.
    fn worker_finished(&mut self, turn: &mut Turn<'_>, worker: &Worker, on_trial: bool) {
        self.consecutive_failed_starts = 0;
        if let Some(slot) = self.slots.get_mut(worker.slot as usize) {
            let again = worker.started_at + slot.backoff.shortest();
            slot.rests_until = Some(again).filter(|at| *at > turn.now);
        }
        self.tell_wait(turn, worker.slot);
        if on_trial {
            self.canary_passes(None);
        }
    }

    fn tell_wait(&self, turn: &mut Turn<'_>, number: u32) {
        let slot = self.slots.get(number as usize);
        if let Some(until) = slot.and_then(|slot| slot.rests_until) {
            turn.tell(Fact::SlotWaits(number, until.since(turn.now)));
        }
    }

    /// A worker that was ready for longer than its slot's wait has shown that it can be started.
    fn count_failed_start(&mut self, failed: bool) {
        if !failed {
            self.consecutive_failed_starts = 0;
            return;
        }
        self.counters.failed_starts += 1;
        let service_is_up = self.workers.has_any(WorkerSet::Ready);
        self.consecutive_failed_starts = if service_is_up {
            0
        } else {
            self.consecutive_failed_starts + 1
        };
    }

    /// A worker died by itself: whose business it is, and whether it was one too many.
    fn worker_died(&mut self, turn: &mut Turn<'_>, death: &Death<'_>) {
        if !self.death_in_rollout(turn, death) {
            self.death_in_restart(turn, death);
            self.death_in_scaling(turn, death);
        }
        let failures = self.consecutive_failed_starts;
        if failures > 0 && self.policy.give_up.is_some_and(|limit| failures >= limit) {
            let exit = death.exit;
            turn.tell(Fact::GaveUp(death.worker.slot, failures));
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
