//! One table of timers: all of the supervisor's waiting is visible here, except for slots that rest
//! ([`Slots`](super::state::slots::Slots)), and the next wake-up is one minimum.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::WorkerId;
use super::time::Time;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The worker must be ready by then.
    Start(WorkerId),
    /// The worker is ready by having lived until then.
    ReadyDelayElapsed(WorkerId),
    /// The worker must have gone by then; else it gets KILL.
    Gone(WorkerId),
    /// The worker must have beaten by then.
    Beat(WorkerId),
    /// The rest of the worker's group is looked at then.
    Group(WorkerId),
    /// The heartbeat pages of starting workers are looked at then.
    Look,
    /// The canary has been ready long enough then.
    Canary,
    /// The probation of the rollout is over then.
    Probation,
    /// Workers that were told to finish are looked at for listeners then.
    Listeners,
    /// The rollout stops waiting for them then.
    ReleaseDeadline,
    /// A graceful stop goes on then: `--stop-delay` has passed.
    StopDelay,
    /// The accept queues are looked at then.
    Queues,
    /// The stop waits no longer for the accept queues then.
    QueuesLate,
    /// What workers left behind is looked at then.
    Leftovers,
    /// A new master beside this one must be up by then.
    Hello,
    /// The other master is asked then whether it still answers, or must have answered by then.
    Answer,
}

/// The table: at most one deadline a timer. It is kept by timer and by time, so that neither a
/// timer nor the next deadline is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    by_timer: BTreeMap<Timer, Time>,
    by_time: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// The table as another image wrote it down.
    pub fn taken_over(deadlines: impl IntoIterator<Item = (Timer, Time)>) -> Timers {
        let by_timer: BTreeMap<Timer, Time> = deadlines.into_iter().collect();
        Timers {
            by_time: by_timer.iter().map(|(timer, at)| (*at, *timer)).collect(),
            by_timer,
        }
    }

    /// Every deadline.
    pub fn all(&self) -> impl Iterator<Item = (Timer, Time)> + '_ {
        self.by_timer.iter().map(|(timer, at)| (*timer, *at))
    }

    /// Sets a deadline, in place of an earlier one of the same timer.
    pub fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.by_timer.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets a deadline unless the timer runs already.
    pub fn ensure(&mut self, timer: Timer, at: Time) {
        if !self.runs(timer) {
            self.set(timer, at);
        }
    }

    /// Sets a deadline unless the timer runs and is due earlier.
    pub fn advance(&mut self, timer: Timer, at: Time) {
        if self.by_timer.get(&timer).is_none_or(|known| at < *known) {
            self.set(timer, at);
        }
    }

    /// Whether the timer runs.
    pub fn runs(&self, timer: Timer) -> bool {
        self.by_timer.contains_key(&timer)
    }

    /// Stops a timer.
    pub fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Stops everything that waits for this worker.
    pub fn clear_worker(&mut self, worker: WorkerId) {
        for timer in [
            Timer::Start(worker),
            Timer::ReadyDelayElapsed(worker),
            Timer::Gone(worker),
            Timer::Beat(worker),
            Timer::Group(worker),
        ] {
            self.clear(timer);
        }
    }

    /// The next deadline, or None: nothing is waited for.
    pub fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out every timer whose deadline has come, earliest first.
    pub fn take_due(&mut self, now: Time) -> Vec<Timer> {
        let over = self.by_time.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<Timer> = over.map(|(_, timer)| *timer).collect();
        due.iter().for_each(|timer| self.clear(*timer));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_come_out_in_the_order_of_their_deadlines() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Look, Time(30));
        timers.set(Timer::Canary, Time(10));
        timers.set(Timer::Probation, Time(20));
        timers.ensure(Timer::Canary, Time(99));
        assert_eq!(timers.next(), Some(Time(10)));
        assert_eq!(timers.take_due(Time(20)), [Timer::Canary, Timer::Probation]);
        assert_eq!(timers.next(), Some(Time(30)));
    }
}
