//! How long the client waits for a master.

use std::time::Duration;

use crate::model::time::Time;
use crate::sys::machine::clock;

/// Without `--timeout`: how long a master may take to accept a connection, to read a request, and
/// to send the first line of its answer. A live master does each of these at once; a stopped or
/// wedged master must not hang its clients.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What to do from time to time while the client waits, so that a display stays alive; `None`:
/// nothing. Called by the waiting thread itself: no verb needs a second one, which a process limit
/// may refuse.
pub type Idle<'a> = Option<&'a dyn Fn()>;

/// How often an [`Idle`] is called.
const IDLE_INTERVAL: Duration = Duration::from_millis(200);

/// The end of the next stretch of waiting: `until`, or earlier where an [`Idle`] wants to be
/// called.
pub(super) fn next_stretch(until: Option<Time>, idle: Idle<'_>) -> Option<Time> {
    let tick = idle.map(|_| clock::now() + IDLE_INTERVAL);
    [until, tick].into_iter().flatten().min()
}

/// The time that is left until `deadline`. Never zero: SO_RCVTIMEO and SO_SNDTIMEO read zero as
/// "no limit" (socket(7)).
pub(super) fn time_left(deadline: Time) -> Option<Duration> {
    let left = deadline.since(clock::now());
    (!left.is_zero()).then(|| left.max(Duration::from_micros(1)))
}
