//! Probation: a rollout that stands, and is undone all the same when one of its workers dies by itself.
//!
//! The new workers have every slot and the old ones were told to finish, so the service is `running` on the new generation. The operation goes on,
//! its caller waits, and what the old generation needs to come back is kept. A worker is on probation from when it is ready until the time is
//! over. The first rollout and a `rollback` have none: there is nothing that is known to be better.

use serde::{Deserialize, Serialize};

use super::{Rollout, Way};
use crate::model::event::{Action, Generation, Level, human};
use crate::model::state::slots::Slot;
use crate::model::supervisor::Supervisor;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

/// A rollout's probation, begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Probation {
    until: Time,
    warnings: Vec<String>,
}

impl Rollout {
    /// Whether it stands, and only its probation is waited for.
    pub(crate) fn on_probation(&self) -> bool {
        self.probation.is_some() && self.way == Way::Forward
    }

    /// How long its new workers are on probation after it; None: not at all.
    fn trial(&self) -> Option<std::time::Duration> {
        // Beside an old master there is one to go back to.
        let known = self.from.is_some() || self.kind == "upgrade";
        let undoable = known && self.kind != "rollback" && self.way == Way::Forward;
        self.policy.probation.filter(|_| undoable)
    }
}

impl Supervisor {
    /// The generation that has the slots although its rollout is not over, if there is one.
    pub(crate) fn on_probation(&self) -> Option<Generation> {
        let rollout = self.rollout.as_ref()?;
        rollout.on_probation().then_some(rollout.to)
    }

    /// Nobody of the old generation accepts any more: the rollout is done, or its probation begins.
    pub(crate) fn rollout_stands(
        &mut self,
        now: Time,
        warnings: Vec<String>,
        out: &mut Vec<Action>,
    ) {
        let slots = self.slots.len();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let Some(trial) = rollout.trial() else {
            return self.rollout_done(now, warnings, out);
        };
        let until = now + trial;
        let text = format!(
            "generation {} serves, on probation for {}",
            rollout.to,
            human(trial)
        );
        out.push(Action::note(
            Level::Info,
            format!("{}: {text}", rollout.kind),
        ));
        out.push(Action::Progress(rollout.op, slots, slots, text));
        rollout.probation = Some(Probation { until, warnings });
        self.timers.set(Timer::Probation, until);
    }

    /// The probation is passed once its time is over and everybody is ready: one that is being aborted just then has missed its heartbeat in time.
    pub(crate) fn settle_probation(&mut self, now: Time, out: &mut Vec<Action>) {
        let rollout = self.rollout.as_ref();
        let Some(probation) = rollout.and_then(|rollout| rollout.probation.clone()) else {
            return;
        };
        let ready = |slot: &Slot| self.worker(slot.current).is_some_and(Worker::is_ready);
        if now >= probation.until && self.slots.iter().all(ready) {
            self.rollout_done(now, probation.warnings, out);
        }
    }

    /// A worker ended by itself. If it was on probation, that is the end of its rollout, and true.
    pub(crate) fn failed_probation(
        &mut self,
        now: Time,
        worker: &Worker,
        exit_message: &str,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let on_trial = worker.ready_at.is_some() || rollout.on_probation();
        let Some(trial) = rollout
            .trial()
            .filter(|_| on_trial && worker.generation == rollout.to)
        else {
            return false;
        };
        let why = format!("{exit_message}, within its probation of {}", human(trial));
        self.fail_rollout(now, why, out);
        true
    }
}
