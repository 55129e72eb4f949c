//! The one place that asks the machine what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::model::time::Time;

/// Now, on the monotonic clock. It stands still while the machine sleeps, so that a suspended machine kills nobody.
pub fn now() -> Time {
    let spec = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    Time::default() + spec
}

/// The wall clock: for display only, never for a decision.
#[expect(clippy::disallowed_methods, reason = "this is its one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A wall-clock moment as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(at: SystemTime) -> String {
    // Year 9999: what the format can hold. A clock beyond it is broken anyway, and the formatter would refuse.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(at.clamp(UNIX_EPOCH, last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let before = now();
        assert!(now() >= before);
        assert_ne!(before, Time::default());
    }

    #[test]
    fn wall_time_is_rfc3339() {
        assert_eq!(rfc3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(rfc3339(far).starts_with("9999-12-31T23:59:59"));
    }
}
