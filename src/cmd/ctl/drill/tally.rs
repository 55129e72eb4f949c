//! The account of one step: answers, losses by kind, and how long answers took.

use std::fmt;
use std::time::Duration;

use super::times::Times;

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
    /// How many connections could not be made, though the service did not refuse them.
    not_made: u64,
    /// Where the first of them went, and why it was not made.
    first_not_made: Option<String>,
    losses: Vec<Loss>,
    /// How long answers took.
    pub times: Times,
}

impl Tally {
    /// An answer that is right.
    pub(super) fn answered(&mut self, took: Duration) {
        self.answers += 1;
        self.times.add(took);
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

    /// A connection to this listener that could not be made.
    pub(super) fn not_made(&mut self, listener: &str, why: &str) {
        self.not_made += 1;
        self.first_not_made
            .get_or_insert_with(|| format!("{listener}: {why}"));
    }

    /// The connections that could not be made, in words; None: there are none.
    pub(super) fn all_not_made(&self) -> Option<String> {
        let first = self.first_not_made.as_ref()?;
        let count = match self.not_made {
            1 => "1 connection".to_owned(),
            count => format!("{count} connections"),
        };
        Some(format!("{count} could not be made; the first to {first}"))
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
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn connections_that_could_not_be_made_are_counted_and_the_first_is_told() {
        let mut tally = Tally::default();
        assert_eq!(tally.all_not_made(), None);
        tally.not_made("http", "Too many open files, errno 24");
        tally.not_made("other", "Permission denied, errno 13");
        let told = "2 connections could not be made; the first to http: Too many open files, \
                    errno 24";
        assert_eq!(tally.all_not_made().as_deref(), Some(told));
        assert_eq!(tally.all_lost(), 0);
    }
}
