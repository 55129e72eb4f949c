//! The machine's monotonic clock.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::event::{Timespec, poll};

use crate::model::time::Time;

/// Now, on the monotonic clock.
pub fn now() -> Time {
    let spec =
        clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    let seconds = u64::try_from(spec.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(spec.tv_nsec()).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Does nothing for `duration`; for the rare thing that has no descriptor to wait on.
pub fn pause(duration: Duration) {
    let until = now() + duration;
    loop {
        let left = until.since(now());
        if left.is_zero() {
            return;
        }
        // An interrupted wait is taken up again by the loop.
        let _ = poll(&mut [], Timespec::try_from(left).ok().as_ref());
    }
}
