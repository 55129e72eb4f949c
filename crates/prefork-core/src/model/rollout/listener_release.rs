//! The end of a change: no worker of the side that lost may still accept.

use std::time::Duration;

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::ids::WorkerId;
use crate::model::policy::RELEASE_WITHIN;
use crate::model::state::Supervisor;
use crate::model::state::rollout::Release;
use crate::model::state::slot_sets::SlotSet;
use crate::model::state::workers::WorkerSet;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::Worker;

impl Supervisor {
    /// Once `settled`, waits until no worker on the losing side accepts any more; the warnings,
    /// when that is over.
    pub(crate) fn await_rollout_release(
        &mut self,
        turn: &mut Turn<'_>,
        settled: bool,
        losing: impl Fn(&Worker) -> bool,
    ) -> Option<Vec<String>> {
        let rollout = self.rollout.as_mut()?;
        if !settled {
            // A crash came between: the wait begins anew once all are ready again.
            rollout.all_ready_at = None;
            return None;
        }
        let since = *rollout.all_ready_at.get_or_insert(turn.now);
        match self.await_release(turn, since, losing) {
            Release::Waiting => None,
            Release::Over(warnings) => Some(warnings),
        }
    }

    /// Waits, [`RELEASE_WITHIN`] at most, until no told worker that `which` picks still accepts.
    pub(crate) fn await_release(
        &mut self,
        turn: &mut Turn<'_>,
        since: Time,
        which: impl Fn(&Worker) -> bool,
    ) -> Release {
        if !self.workers.members(WorkerSet::Accepting).any(&which) {
            return Release::Over(Vec::new());
        }
        let deadline = since + RELEASE_WITHIN;
        if turn.now < deadline {
            // Most go within milliseconds; those that drain are looked at less and less often.
            let pace = Duration::from_millis(5 << self.listener_looks.min(5));
            self.timers.ensure(Timer::Listeners, turn.now + pace);
            self.timers.set(Timer::ReleaseDeadline, deadline);
            return Release::Waiting;
        }
        let mut warnings = Vec::new();
        for id in self.still_accepting(which) {
            // Waited for once: a worker that drains for an hour must not hold up every rollout of
            // that hour.
            let label = self.change_worker(id, |worker| {
                worker.released_listeners = true;
                worker.label()
            });
            warnings.extend(label.map(|label| Fact::ListenerStillHeld(label, RELEASE_WITHIN)));
        }
        let texts = warnings.iter().map(Fact::to_string).collect();
        warnings.into_iter().for_each(|fact| turn.tell(fact));
        Release::Over(texts)
    }

    /// Workers that were told to finish and may still accept, among those that `which` picks.
    fn still_accepting(&self, which: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        let accepting = self.workers.members(WorkerSet::Accepting);
        let wanted = accepting.filter(|worker| which(worker));
        wanted.map(|worker| worker.id).collect()
    }

    /// Has every told worker looked at that may still accept.
    pub(crate) fn look_for_listeners(&mut self, turn: &mut Turn<'_>) {
        self.listener_looks = self.listener_looks.saturating_add(1);
        for worker in self.still_accepting(|_| true) {
            turn.act(Action::LookForListeners(worker));
        }
    }

    /// Once nothing waits for a release any more, the looks end, and begin at their fastest pace
    /// the next time.
    pub(crate) fn settle_release_looks(&mut self) {
        let rollout_waits = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| !rollout.on_probation());
        let restart_waits = self.count_slots(SlotSet::Restarting) > 0;
        if !rollout_waits && !restart_waits {
            self.listener_looks = 0;
            self.timers.clear(Timer::Listeners);
            self.timers.clear(Timer::ReleaseDeadline);
        }
    }
}
