//! Complaints that come again and again: one of a kind within a second is told, and how many were not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::time::Time;

/// How often one of a kind is told.
const EVERY: Duration = Duration::from_secs(1);

/// What has been told of late.
#[derive(Debug)]
pub struct Repeated<Kind> {
    seen: BTreeMap<Kind, (Time, u64)>,
}

impl<Kind: Ord> Default for Repeated<Kind> {
    fn default() -> Self {
        let seen = BTreeMap::new();
        Repeated { seen }
    }
}

impl<Kind: Ord> Repeated<Kind> {
    /// Another one of this kind: if it is to be told, how many were not since the last one that was.
    pub fn again(&mut self, now: Time, kind: Kind) -> Option<u64> {
        match self.seen.get_mut(&kind) {
            Some((told, untold)) if now.since(*told) < EVERY => {
                *untold = untold.saturating_add(1);
                None
            }
            Some(known) => Some(std::mem::replace(known, (now, 0)).1),
            None => {
                self.seen.insert(kind, (now, 0));
                Some(0)
            }
        }
    }

    /// How many of each kind were never told.
    pub fn rest(&self) -> impl Iterator<Item = (&Kind, u64)> {
        let counts = self.seen.iter().map(|(kind, (_, untold))| (kind, *untold));
        counts.filter(|(_, untold)| *untold > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_a_second() {
        let at = |millis: u64| Time(millis * 1_000_000);
        let mut repeated = Repeated::default();
        assert_eq!(repeated.again(at(0), "a"), Some(0));
        assert_eq!(repeated.again(at(10), "a"), None);
        assert_eq!(repeated.again(at(10), "b"), Some(0));
        assert_eq!(repeated.again(at(999), "a"), None);
        assert_eq!(repeated.again(at(1000), "a"), Some(2));
        assert_eq!(repeated.again(at(1500), "a"), None);
        assert_eq!(repeated.rest().collect::<Vec<_>>(), [(&"a", 1)]);
    }
}
