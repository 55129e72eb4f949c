//! Probation: a rollout that has every slot, and is undone all the same when one of its workers
//! dies by itself.
//!
//! The new workers have every slot and the old ones were told to finish, so the service is
//! `running` on the new generation. The operation goes on, its caller waits, and what the old
//! generation needs to come back is kept. A worker is on probation from when it is ready until the
//! time is over; before, a death counts as in every rollout. The first rollout and a `rollback`
//! have none: there is nothing that is known to be better.

use crate::model::exit::Cause;
use crate::model::fact::Fact;
use crate::model::fact::text::human;
use crate::model::ids::Generation;
use crate::model::state::Supervisor;
use crate::model::state::rollout::Probation;
use crate::model::state::slot_sets::SlotSet;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::exit::Death;

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
        if turn.now >= probation.until && self.all_slots_in(SlotSet::Ready) {
            self.rollout_done(turn, probation.warnings);
        }
    }

    /// Why the death of a new worker ends the probation that its rollout is on; None: it is on
    /// none. That a process could not be made is no death: it counts as any failed start does.
    pub(crate) fn ends_probation(&self, death: &Death<'_>) -> Option<String> {
        let rollout = self.rollout.as_ref().filter(|it| it.on_probation())?;
        let trial = rollout.trial()?;
        let died = death.exit.exit.cause != Cause::SpawnFailed;
        died.then(|| format!("{}, within its probation of {}", death.exit, human(trial)))
    }
}
