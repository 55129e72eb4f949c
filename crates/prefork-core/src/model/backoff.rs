//! How long a slot waits before its next start.

use std::time::Duration;

/// A small generator (splitmix64) for jitter: seeded by the driver, so that the model stays a
/// function of its inputs.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A generator that starts from this seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// What a generator that goes on from here would be made from.
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// The next number below `bound` (0 where that is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

/// One slot's backoff: doubling from the shortest wait to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    shortest: Duration,
    longest: Duration,
    wait: Duration,
}

impl Backoff {
    /// A backoff that has not been needed yet.
    pub fn new((shortest, longest): (Duration, Duration)) -> Self {
        Backoff {
            shortest,
            longest,
            wait: shortest,
        }
    }

    /// A back-off as another image wrote it down: the shortest and the longest wait, and the next.
    pub fn taken_over((shortest, longest): (Duration, Duration), wait: Duration) -> Self {
        Backoff {
            shortest,
            longest,
            wait,
        }
    }

    /// The shortest and the longest wait.
    pub fn bounds(&self) -> (Duration, Duration) {
        (self.shortest, self.longest)
    }

    /// The shortest wait: a slot whose workers finish starts at most one in this time.
    pub fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The current wait. A worker that was ready for longer than this is replaced at once.
    pub fn current(&self) -> Duration {
        self.wait
    }

    /// Back to the shortest wait.
    pub fn reset(&mut self) {
        self.wait = self.shortest;
    }

    /// A worker died by itself: takes the current wait, up to a tenth longer by chance so that
    /// slots that fail together do not start together, and doubles it for the next time.
    pub fn take(&mut self, dice: &mut Dice) -> Duration {
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(self.longest);
        let tenth = u64::try_from(wait.as_nanos() / 10).unwrap_or(u64::MAX);
        wait.saturating_add(Duration::from_nanos(dice.below(tenth)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_starts_anew() {
        let mut dice = Dice::new(1);
        let mut backoff = Backoff::new((Duration::from_millis(100), Duration::from_millis(350)));
        for expected in [100, 200, 350, 350] {
            let wait = backoff.take(&mut dice).as_millis();
            assert!(
                (expected..expected + expected / 10 + 1).contains(&wait),
                "{expected}: {wait}"
            );
        }
        backoff.reset();
        assert_eq!(backoff.current(), Duration::from_millis(100));
    }
}
