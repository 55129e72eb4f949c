//! The end of a change: nobody of the side that lost may still accept.

use std::time::Duration;

use crate::model::event::{Action, Level};
use crate::model::policy::LET_GO_WITHIN;
use crate::model::supervisor::Supervisor;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

/// Whether a wait for workers to let go of the listeners is over.
pub(crate) enum Release {
    Waiting,
    Over(Vec<String>),
}

impl Supervisor {
    /// Once `settled`, waits for those on the losing side to accept no more; the warnings, when that is over.
    pub(crate) fn let_go_of_rollout(
        &mut self,
        now: Time,
        settled: bool,
        losing: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) -> Option<Vec<String>> {
        let rollout = self.rollout.as_mut()?;
        if !settled {
            // A crash came between: the wait begins anew once all are ready again.
            rollout.settled_at = None;
            return None;
        }
        let since = *rollout.settled_at.get_or_insert(now);
        match self.let_go(now, since, losing, out) {
            Release::Waiting => None,
            Release::Over(warnings) => Some(warnings),
        }
    }

    /// Waits, [`LET_GO_WITHIN`] at most, until no told worker that `which` picks still accepts.
    pub(crate) fn let_go(
        &mut self,
        now: Time,
        since: Time,
        which: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) -> Release {
        let holding = self.still_accepting(which);
        if holding.is_empty() {
            return Release::Over(Vec::new());
        }
        if now < since + LET_GO_WITHIN {
            // Most go within milliseconds; those that drain are looked at less and less often.
            let pace = Duration::from_millis(5 << self.listener_looks.min(5));
            self.timers.ensure(Timer::Listeners, now + pace);
            self.timers
                .set(Timer::ReleaseDeadline, since + LET_GO_WITHIN);
            return Release::Waiting;
        }
        let mut warnings = Vec::new();
        for id in holding {
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            // Waited for once: what drains for an hour must not hold up every rollout of that hour.
            worker.let_go = true;
            warnings.push(format!(
                "{} was told to finish and still holds a listener after {}: it may still accept",
                worker.label(),
                crate::model::event::human(LET_GO_WITHIN)
            ));
        }
        out.extend(
            warnings
                .iter()
                .map(|text| Action::note(Level::Warn, text.clone())),
        );
        Release::Over(warnings)
    }

    /// Has every told worker looked at that is not known to have let go.
    pub(crate) fn look_for_listeners(&mut self, out: &mut Vec<Action>) {
        self.listener_looks = self.listener_looks.saturating_add(1);
        out.extend(
            self.still_accepting(|_| true)
                .into_iter()
                .map(Action::LookForListeners),
        );
    }
}
