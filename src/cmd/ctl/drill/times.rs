//! How long answers took, in a room that does not grow with their number.
//!
//! A count for each range of durations. The ranges grow with the durations, so that each is at most
//! 1/64 of what it counts; a percentile is the end of its range, so it is never too short.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many ranges there are between a duration and twice of it.
const RANGES: u64 = 64;

/// Counts of durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// By the last microsecond of the range.
    counts: BTreeMap<u64, u64>,
    all: u64,
    longest: Option<Duration>,
}

impl Times {
    /// Counts one more.
    pub(super) fn add(&mut self, took: Duration) {
        *self.counts.entry(last_of_range(took)).or_default() += 1;
        self.all += 1;
        self.longest = self.longest.max(Some(took));
    }

    /// A duration that at least `percent` of all do not exceed; None: there is none. At most 1/64
    /// above the shortest such one.
    pub(super) fn percentile(&self, percent: u64) -> Option<Duration> {
        let longest = self.longest?;
        let rank = (self.all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let (last, _) = self.counts.iter().find(|(_, count)| {
            seen += **count;
            rank <= seen
        })?;
        Some(Duration::from_micros(*last).min(longest))
    }

    /// The longest; None: there is none.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest
    }
}

/// The last microsecond of the range of this duration.
fn last_of_range(took: Duration) -> u64 {
    // Not the one before it: a duration is never counted as a shorter one.
    let micros = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
    let width = (micros / RANGES).checked_ilog2().unwrap_or(0);
    micros | ((1 << width) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(all: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        for micros in all {
            times.add(Duration::from_micros(micros));
        }
        times
    }

    #[test]
    fn a_percentile_is_never_too_short_and_hardly_longer() {
        for last in [1, 2, 3, 100, 1000, 123_456] {
            let times = times(1..=last);
            for percent in [1, 50, 99, 100] {
                let exact = (last * percent).div_ceil(100);
                let found = times.percentile(percent).expect("there are some");
                let found = u64::try_from(found.as_micros()).expect("short");
                let most = exact + exact / RANGES;
                assert!((exact..=most).contains(&found), "{last} {percent}: {found}");
            }
            assert_eq!(times.longest(), Some(Duration::from_micros(last)));
        }
        let odd = Duration::from_nanos(1_000_001);
        let mut times = Times::default();
        assert_eq!((times.percentile(50), times.longest()), (None, None));
        times.add(odd);
        assert_eq!(
            (times.percentile(50), times.longest()),
            (Some(odd), Some(odd))
        );
    }

    #[test]
    fn a_long_step_needs_no_more_room() {
        let few = times((0..20_000_000).step_by(64));
        assert!(few.counts.len() < 2000, "{}", few.counts.len());
        let mut many = few.clone();
        for micros in (0..20_000_000).step_by(64) {
            many.add(Duration::from_micros(micros));
        }
        assert_eq!(many.counts.len(), few.counts.len());
        assert_eq!(many.all, 2 * few.all);
        assert_eq!(last_of_range(Duration::MAX), u64::MAX);
    }
}
