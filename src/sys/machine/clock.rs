//! The clocks: the only code that reads one.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use rustix::event::{Timespec, poll};

use crate::model::time::Time;

/// Now, on `CLOCK_MONOTONIC`, which continues across an exec. All deadlines are on this clock.
pub fn now() -> Time {
    // This clock cannot fail on any system that we run on. If it did, a time that stands still
    // would do no harm.
    let spec =
        clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    let seconds = u64::try_from(spec.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(spec.tv_nsec()).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The wall clock, for people to read; no decision depends on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A moment as RFC 3339 in UTC, to the millisecond: `2026-01-31T12:00:00.000Z`.
pub fn rfc3339(moment: SystemTime) -> String {
    humantime::format_rfc3339_millis(moment).to_string()
}

/// Sleeps for `duration`; for the rare wait without a descriptor.
pub fn pause(duration: Duration) {
    let until = now() + duration;
    loop {
        let left = until.since(now());
        if left.is_zero() {
            return;
        }
        // The loop repeats an interrupted wait. A wait too long for the system to express ends at a
        // signal only.
        let _ = poll(&mut [], Timespec::try_from(left).ok().as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lasts() {
        let start = now();
        pause(Duration::from_millis(3));
        assert!(now().since(start) >= Duration::from_millis(3));
    }

    #[test]
    fn moments_are_rfc3339() {
        assert_eq!(
            rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_123)),
            "1970-01-02T00:00:00.123Z"
        );
        assert!(wall() > SystemTime::UNIX_EPOCH);
    }
}
