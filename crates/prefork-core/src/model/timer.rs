//! One table of timers: all of the supervisor's waiting is visible here, except for slots that rest
//! ([`Slots`](super::state::slots::Slots)), and the next wake-up is one minimum.

use std::collections::BTreeMap;

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

/// The table: at most one deadline a timer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers(BTreeMap<Timer, Time>);

impl Timers {
    /// The table as another image wrote it down.
    pub fn taken_over(deadlines: impl IntoIterator<Item = (Timer, Time)>) -> Timers {
        Timers(deadlines.into_iter().collect())
    }

    /// Every deadline.
    pub fn all(&self) -> impl Iterator<Item = (Timer, Time)> + '_ {
        self.0.iter().map(|(timer, at)| (*timer, *at))
    }

    /// Sets a deadline, in place of an earlier one of the same timer.
    pub fn set(&mut self, timer: Timer, at: Time) {
        self.0.insert(timer, at);
    }

    /// Sets a deadline unless the timer runs already.
    pub fn ensure(&mut self, timer: Timer, at: Time) {
        self.0.entry(timer).or_insert(at);
    }

    /// Sets a deadline unless the timer runs and is due earlier.
    pub fn advance(&mut self, timer: Timer, at: Time) {
        let known = self.0.entry(timer).or_insert(at);
        *known = at.min(*known);
    }

    /// Whether the timer runs.
    pub fn runs(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    /// Stops a timer.
    pub fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
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
        self.0.values().min().copied()
    }

    /// Takes out every timer whose deadline has come, earliest first.
    pub fn take_due(&mut self, now: Time) -> Vec<Timer> {
        let mut due: Vec<(Time, Timer)> = self
            .0
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(timer, at)| (*at, *timer))
            .collect();
        due.sort();
        for (_, timer) in &due {
            self.0.remove(timer);
        }
        due.into_iter().map(|(_, timer)| timer).collect()
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
