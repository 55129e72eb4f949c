//! Time is an argument: a moment on the driver's monotonic clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, as nanoseconds of the machine's monotonic clock.
///
/// A plain number, not an `Instant`, because it must survive an exec (the clock goes on, so the
/// number stays true in the new image) and because tests and transcripts start it at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The time that has passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a deadline of `u64::MAX` is never, and arithmetic on hostile durations must not
    /// panic.
    fn add(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(
            self.0
                .saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(5) + Duration::MAX, Time(u64::MAX));
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(Time(5).since(Time(7)), Duration::ZERO);
    }
}
