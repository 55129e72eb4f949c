//! The account of one step: answers, losses by kind, and how long answers took.

use std::fmt;
use std::time::Duration;

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No process listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before a byte of the answer.
    Empty,
    /// The answer is another one, or ended before it was whole.
    Wrong,
    /// No whole answer in time.
    Slow,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub(super) const ALL: [Kind; 5] = [
        Kind::Refused,
        Kind::Reset,
        Kind::Empty,
        Kind::Wrong,
        Kind::Slow,
    ];

    /// The word in the table and in the JSON document.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Refused => "refused",
            Kind::Reset => "reset",
            Kind::Empty => "empty",
            Kind::Wrong => "wrong",
            Kind::Slow => "slow",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request that was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub kind: Kind,
    /// The listener, in words.
    pub listener: String,
    /// What was seen instead of the answer.
    pub what: String,
    /// The killed worker had accepted it.
    pub is_excused: bool,
}

/// How many losses are remembered with what was seen; all are counted.
const REMEMBERED: usize = 1000;

/// What came of the requests of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub answers: u64,
    lost: [u64; Kind::ALL.len()],
    pub excused: u64,
    /// Requests that were sent again, since a kept connection had just been closed.
    pub repeated: u64,
    /// Attempts that this machine had no room for.
    pub not_made: u64,
    losses: Vec<Loss>,
    took: Vec<Duration>,
}

impl Tally {
    /// An answer that is right.
    pub(super) fn answered(&mut self, took: Duration) {
        self.answers += 1;
        self.took.push(took);
    }

    /// A request that was lost.
    pub(super) fn lost(&mut self, loss: Loss) {
        if loss.is_excused {
            self.excused += 1;
        } else {
            self.lost[loss.kind as usize] += 1;
        }
        if self.losses.len() < REMEMBERED {
            self.losses.push(loss);
        }
    }

    /// How many were lost in this way, excused ones aside.
    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.lost[kind as usize]
    }

    /// How many were lost, excused ones aside.
    pub(super) fn all_lost(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// The first loss of a kind that is not excused.
    pub(super) fn first(&self, kind: Kind) -> Option<&Loss> {
        let mut losses = self.losses.iter();
        losses.find(|loss| loss.kind == kind && !loss.is_excused)
    }

    /// The first loss of any kind.
    pub(super) fn any(&self) -> Option<&Loss> {
        self.losses.first()
    }

    /// How long answers took.
    pub(super) fn times(&self) -> Times {
        Times::of(self.took.clone())
    }
}

/// How long answers took. None: there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    pub max: Option<Duration>,
}

impl Times {
    fn of(mut took: Vec<Duration>) -> Times {
        took.sort_unstable();
        Times {
            p50: percentile(&took, 50),
            p99: percentile(&took, 99),
            max: took.last().copied(),
        }
    }
}

/// The smallest of these sorted durations that at least `percent` of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(all: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        all.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        let one_to = |last: u64| millis(1..=last);
        for (sorted, p50, p99) in [
            (one_to(1), 1, 1),
            (one_to(2), 1, 2),
            (one_to(3), 2, 3),
            (one_to(100), 50, 99),
            (one_to(1000), 500, 990),
        ] {
            let at = |percent| percentile(&sorted, percent).map(|it| it.as_millis());
            assert_eq!((at(50), at(99)), (Some(p50), Some(p99)), "{}", sorted.len());
        }
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(
            Times::of(millis([5, 1, 3])).max,
            Some(Duration::from_millis(5))
        );
    }

    #[test]
    fn what_the_killed_worker_had_accepted_is_told_apart() {
        let mut tally = Tally::default();
        let loss = |kind, is_excused| Loss {
            kind,
            listener: "http".into(),
            what: String::new(),
            is_excused,
        };
        tally.lost(loss(Kind::Reset, true));
        tally.lost(loss(Kind::Refused, false));
        tally.lost(loss(Kind::Refused, false));
        tally.answered(Duration::from_millis(1));
        assert_eq!((tally.answers, tally.all_lost(), tally.excused), (1, 2, 1));
        assert_eq!((tally.of(Kind::Refused), tally.of(Kind::Reset)), (2, 0));
        assert!(tally.first(Kind::Refused).is_some());
        assert_eq!(tally.first(Kind::Reset), None);
    }
}
