//! A throttle for log lines that repeat, as a small pure machine of its own; `pf-accept` runs it.
//!
//! Of each kind of line it admits one a second, and counts those that it suppressed in between.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::time::Time;

/// One line of a kind is admitted in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Remembers for each kind when a line was admitted last, and how many were suppressed since.
#[derive(Debug)]
pub struct LogThrottle<Kind> {
    seen: BTreeMap<Kind, (Time, u64)>,
}

impl<Kind: Ord> Default for LogThrottle<Kind> {
    fn default() -> Self {
        let seen = BTreeMap::new();
        LogThrottle { seen }
    }
}

impl<Kind: Ord> LogThrottle<Kind> {
    /// Decides about one line of this kind. `Some`: log it; the number of lines that were
    /// suppressed since the last one that was logged.
    pub fn admit(&mut self, now: Time, kind: Kind) -> Option<u64> {
        match self.seen.get_mut(&kind) {
            Some((logged, suppressed)) if now.since(*logged) < EVERY => {
                *suppressed = suppressed.saturating_add(1);
                None
            }
            Some(known) => Some(std::mem::replace(known, (now, 0)).1),
            None => {
                self.seen.insert(kind, (now, 0));
                Some(0)
            }
        }
    }

    /// The kinds of which lines were suppressed since the last one that was logged, with their
    /// number: to be logged at the end.
    pub fn suppressed(&self) -> impl Iterator<Item = (&Kind, u64)> {
        let counts = self
            .seen
            .iter()
            .map(|(kind, (_, suppressed))| (kind, *suppressed));
        counts.filter(|(_, suppressed)| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_one_line_of_a_kind_each_second() {
        let at = |millis: u64| Time(millis * 1_000_000);
        let mut throttle = LogThrottle::default();
        assert_eq!(throttle.admit(at(0), "a"), Some(0));
        assert_eq!(throttle.admit(at(10), "a"), None);
        assert_eq!(throttle.admit(at(10), "b"), Some(0));
        assert_eq!(throttle.admit(at(999), "a"), None);
        assert_eq!(throttle.admit(at(1000), "a"), Some(2));
        assert_eq!(throttle.admit(at(1500), "a"), None);
        assert_eq!(throttle.suppressed().collect::<Vec<_>>(), [(&"a", 1)]);
    }
}
