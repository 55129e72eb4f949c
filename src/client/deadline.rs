//! How long the client waits for a master.

use std::time::Duration;

use crate::model::time::Time;
use crate::sys::machine::clock;

/// Without `--timeout`: how long a master may take to accept a connection, to read a request, and
/// to send the first line of its answer. A live master does each of these at once; a stopped or
/// wedged master must not hang its clients.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The time that is left until `deadline`. Never zero: SO_RCVTIMEO and SO_SNDTIMEO read zero as
/// "no limit" (socket(7)).
pub(super) fn time_left(deadline: Time) -> Option<Duration> {
    let left = deadline.since(clock::now());
    (!left.is_zero()).then(|| left.max(Duration::from_micros(1)))
}
