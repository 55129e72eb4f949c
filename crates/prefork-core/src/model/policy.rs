//! What the operator asked for: validated settings, as plain values.
//!
//! A policy belongs to a generation and is swapped with it, so that a reload that changes a setting
//! can be rolled back whole.

use std::time::Duration;

use super::signal::Signal;

/// The most slots that a master manages; more is a typing error rather than a wish.
pub const MAX_SLOTS: usize = 10_000;

/// How long `auto` lets a worker live that says nothing before it counts as ready.
pub const SILENT_READY: Duration = Duration::from_secs(1);

/// How long `--canary auto` tries a worker that told that it was ready.
pub const CANARY_TOLD: Duration = Duration::from_secs(1);

/// How long `--canary auto` tries a worker that said nothing, and only lived for [`SILENT_READY`].
pub const CANARY_GUESSED: Duration = Duration::from_secs(5);

/// After this long of being ready, a slot's wait is the shortest again.
pub const PROVEN_AFTER: Duration = Duration::from_secs(10);

/// How often a heartbeat page is looked at while readiness hangs on it.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a rollout waits for workers that were told to finish to let go of the listeners.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// How long after KILL a process that does not go is given up.
pub const UNKILLABLE_AFTER: Duration = Duration::from_secs(5);

/// How long after its abort signal a worker that missed its heartbeat gets KILL.
pub const ABORT_WITHIN: Duration = Duration::from_secs(1);

/// How often the accept queues are looked at while `--drain-queue` waits for them.
pub const LOOK_AT_QUEUES_EVERY: Duration = Duration::from_millis(10);

/// Within this time the same stopping signal counts once.
pub const SAME_SIGNAL_WITHIN: Duration = Duration::from_secs(1);

/// When a worker is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// `READY=1` or the first beat; alive for [`SILENT_READY`] as long as no worker of the service
    /// ever said either.
    Auto,
    /// `READY=1`, or einhorn's ack.
    Notify,
    /// The first beat.
    Heartbeat,
    /// It has lived for this long.
    Delay(Duration),
    /// Its exec succeeded.
    Exec,
    /// It wrote a newline to this fd (s6's way).
    Fd(i32),
}

/// How many workers beyond the slots may be starting at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surge {
    /// This many.
    Workers(usize),
    /// This share of the slots, rounded up.
    Percent(u32),
}

impl Surge {
    /// The number of workers for so many slots. 0 means: retire first, then start.
    pub fn of(self, slots: usize) -> usize {
        match self {
            Surge::Workers(workers) => workers,
            Surge::Percent(percent) => slots.saturating_mul(percent as usize).div_ceil(100),
        }
    }
}

/// How long the first new worker must stay ready before a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// As long as it takes to trust how its readiness became known, in a rollout that replaces
    /// something by something newer.
    Auto,
    /// Not at all.
    Off,
    /// This long, in every rollout.
    After(Duration),
}

impl Canary {
    /// Whether a rollout has a canary. `replaces_by_newer`: it is neither the first one nor the way
    /// back to a release that has served.
    pub fn is_wanted(self, replaces_by_newer: bool) -> bool {
        match self {
            Canary::Auto => replaces_by_newer,
            Canary::Off => false,
            Canary::After(_) => true,
        }
    }

    /// How long the canary is tried. `guessed`: it is ready only because it has lived for a while.
    pub fn trial(self, guessed: bool) -> Duration {
        match self {
            Canary::Auto if guessed => CANARY_GUESSED,
            Canary::Auto => CANARY_TOLD,
            Canary::Off => Duration::ZERO,
            Canary::After(trial) => trial,
        }
    }
}

/// How hard a stop is. The order is the order of escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopSeverity {
    /// Finish the requests that were accepted, then exit.
    Graceful,
    /// Finish now.
    Quick,
    /// Print a stack and die: a missed heartbeat.
    Abort,
    /// KILL, to the whole group.
    Kill,
}

impl StopSeverity {
    /// The next harder one.
    pub fn harder(self) -> StopSeverity {
        match self {
            StopSeverity::Graceful => StopSeverity::Quick,
            StopSeverity::Quick | StopSeverity::Abort | StopSeverity::Kill => StopSeverity::Kill,
        }
    }
}

/// The settings of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
// What an older image did not know yet, it did not do.
pub struct Policy {
    /// When a worker is ready.
    pub ready: Readiness,
    /// Not ready by then: killed.
    pub start_timeout: Option<Duration>,
    /// No heartbeat for so long: aborted.
    pub timeout: Option<Duration>,
    /// What a worker that missed its heartbeat gets first, so that runtimes print a stack before
    /// they die.
    pub abort_signal: Signal,
    /// What asks a worker to finish.
    pub graceful_signal: Signal,
    /// How long it may take.
    pub graceful_timeout: Duration,
    /// What a quick stop sends.
    pub quick_signal: Signal,
    /// How long a quick stop may take.
    pub quick_timeout: Duration,
    /// What TERM to the master means.
    pub term: StopSeverity,
    /// On a graceful stop: keep serving so long, and say 'stopping'.
    pub stop_delay: Option<Duration>,
    /// On a graceful stop: workers are told only once each accept queue has been seen empty.
    pub drain_queue: bool,
    /// The most retiring workers.
    pub max_draining: Option<usize>,
    /// How many workers beyond the slots may be starting at once.
    pub surge: Surge,
    /// How long the first new worker must stay ready before a rollout goes on.
    pub canary: Canary,
    /// How long after all new workers are ready one that dies by itself rolls them back.
    pub probation: Option<Duration>,
    /// Failed starts, and deaths of new workers, that roll a rollout back.
    pub start_failures: u32,
    /// The shortest and the longest wait before a slot's next start.
    pub backoff: (Duration, Duration),
    /// Consecutive failed starts, with no worker ready, after which the master gives up.
    pub give_up: Option<u32>,
    /// Exit codes after which a worker is not started again.
    pub fatal_exit: Vec<i32>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            ready: Readiness::Auto,
            start_timeout: Some(Duration::from_secs(60)),
            timeout: None,
            abort_signal: Signal::Abrt,
            graceful_signal: Signal::Term,
            graceful_timeout: Duration::from_secs(30),
            quick_signal: Signal::Int,
            quick_timeout: Duration::from_secs(5),
            term: StopSeverity::Graceful,
            stop_delay: None,
            drain_queue: false,
            max_draining: None,
            surge: Surge::Workers(1),
            canary: Canary::Auto,
            probation: None,
            start_failures: 3,
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            give_up: None,
            fatal_exit: Vec::new(),
        }
    }
}

impl Policy {
    /// The signal that tells a worker to finish this hard, and how long the worker may take before
    /// the next harder one.
    pub fn signal(&self, word: StopSeverity) -> (Signal, Duration) {
        match word {
            StopSeverity::Graceful => (self.graceful_signal, self.graceful_timeout),
            StopSeverity::Quick => (self.quick_signal, self.quick_timeout),
            StopSeverity::Abort => (self.abort_signal, ABORT_WITHIN),
            StopSeverity::Kill => (Signal::Kill, UNKILLABLE_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_slots_is_rounded_up() {
        assert_eq!(Surge::Percent(10).of(4), 1);
        assert_eq!(Surge::Percent(100).of(4), 4);
        assert_eq!(Surge::Percent(0).of(4), 0);
        assert_eq!(Surge::Workers(3).of(1), 3);
    }
}
