//! Probation: a rollout that has every slot, and is undone all the same when one of its workers
//! dies by itself.
//!
//! The new workers have every slot and the old ones were told to finish, so the service is
//! `running` on the new generation. The operation goes on, its caller waits, and what the old
//! generation needs to come back is kept. A worker is on probation from when it is ready until the
//! time is over. The first rollout and a `rollback` have none: there is nothing that is known to be
//! better.

use crate::model::fact::text::human;
use crate::model::fact::{Fact, WorkerExit};
use crate::model::ids::Generation;
use crate::model::state::Supervisor;
use crate::model::state::rollout::Probation;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::Worker;

impl Supervisor {
    /// The generation that has the slots although its rollout is not over, if there is one.
    pub(crate) fn on_probation(&self) -> Option<Generation> {
        let rollout = self.rollout.as_ref()?;
        rollout.on_probation().then_some(rollout.to)
    }

    /// No worker of the old generation accepts any more: the rollout is done, or its probation
    /// begins.
    pub(crate) fn rollout_has_every_slot(&mut self, turn: &mut Turn<'_>, warnings: Vec<String>) {
        let slots = self.slots.len();
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        let Some(trial) = rollout.trial() else {
            return self.rollout_done(turn, warnings);
        };
        let (kind, to) = (rollout.kind, rollout.to);
        let fact = Fact::RolloutOnProbation { kind, to, trial };
        turn.tell_with_progress(fact, rollout.op, slots, slots);
        let until = turn.now + trial;
        rollout.probation = Some(Probation { until, warnings });
        self.timers.set(Timer::Probation, until);
    }

    /// The probation is passed once its time is over and every worker is ready: a worker that is
    /// being aborted just then has missed its heartbeat in time.
    pub(crate) fn settle_probation(&mut self, turn: &mut Turn<'_>) {
        let rollout = self.rollout.as_ref();
        let Some(probation) = rollout.and_then(|rollout| rollout.probation.clone()) else {
            return;
        };
        if turn.now >= probation.until && self.all_slots_ready() {
            self.rollout_done(turn, probation.warnings);
        }
    }

    /// A worker ended by itself. If it was on probation, that is the end of its rollout, and true.
    pub(crate) fn failed_probation(
        &mut self,
        turn: &mut Turn<'_>,
        worker: &Worker,
        exit: &WorkerExit,
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
        let why = format!("{exit}, within its probation of {}", human(trial));
        self.rollout_failed(turn, why);
        true
    }
}
