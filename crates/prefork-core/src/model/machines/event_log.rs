//! What has happened, numbered without a gap, and the last of it kept: what followers of a service
//! are told from. Run by the driver, which gives it events as lines and never looks into them.
//!
//! While two masters serve, both make events and there is one sequence. The old master numbers all
//! of them as long as it lives; the new one sends it its own, and keeps them as unnumbered until
//! they come back with a number. So each of the two can tell the whole sequence, and if the old
//! master ends at any moment, the new one numbers what has not come back and goes on.

use std::collections::VecDeque;

/// How many events are kept.
pub const KEPT: usize = 1000;

/// The events of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog<E> {
    /// Tells the sequence of one service from that of the next one under the same name.
    id: u64,
    /// The last events, the oldest first.
    kept: VecDeque<E>,
    /// The number of the newest event; the first event has number 1.
    last: u64,
    /// Events of this master that the other one has not numbered yet. None: this master numbers.
    unnumbered: Option<VecDeque<E>>,
}

/// What comes after an event.
#[derive(Debug, PartialEq, Eq)]
pub enum NextEvent<'a, E> {
    /// So many events are no longer kept; the last of them has this number.
    Missed {
        /// How many.
        count: u64,
        /// The number of the last of them.
        last: u64,
    },
    /// The event with this number.
    Kept(u64, &'a E),
}

impl<E: Clone> EventLog<E> {
    /// The log of a new service.
    pub fn new(id: u64) -> Self {
        EventLog {
            id,
            kept: VecDeque::new(),
            last: 0,
            unnumbered: None,
        }
    }

    /// A log that another image or master has kept, up to event `last`.
    pub fn restored(id: u64, last: u64, kept: impl IntoIterator<Item = E>) -> Self {
        let mut log = EventLog {
            last,
            kept: kept.into_iter().collect(),
            ..EventLog::new(id)
        };
        // There is no event before the first, however long the list is that was written.
        let most = usize::try_from(last).unwrap_or(KEPT).min(KEPT);
        log.kept.drain(..log.kept.len().saturating_sub(most));
        log
    }

    /// The same, beside an old master that numbers, and has not numbered these yet.
    pub fn beside_old_master(mut self, unnumbered: impl IntoIterator<Item = E>) -> Self {
        self.unnumbered = Some(unnumbered.into_iter().collect());
        self
    }

    /// Tells the sequence of one service from that of the next.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number of the newest event; 0: there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The events that are kept, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &E> {
        self.kept.iter()
    }

    /// The events that the old master has not numbered yet; None: this master numbers.
    pub fn unnumbered(&self) -> Option<impl Iterator<Item = &E>> {
        self.unnumbered.as_ref().map(VecDeque::iter)
    }

    /// An event of this master: its number, or None if the old master is to number it.
    pub fn happened(&mut self, event: E) -> Option<u64> {
        if let Some(unnumbered) = &mut self.unnumbered {
            unnumbered.push_back(event);
            return None;
        }
        self.push(event);
        Some(self.last)
    }

    /// An event of the new master: its number; None if that is not this master's to give.
    pub fn happened_there(&mut self, event: E) -> Option<u64> {
        if self.unnumbered.is_some() {
            return None;
        }
        self.happened(event)
    }

    /// The old master has numbered an event; `own`: one of this master's.
    pub fn numbered(&mut self, number: u64, own: bool, event: E) {
        let Some(unnumbered) = &mut self.unnumbered else {
            return;
        };
        if own {
            // They come back in the order in which they were sent.
            unnumbered.pop_front();
        }
        if number <= self.last {
            // It was told already, or is not to be told.
            return;
        }
        if number != self.last + 1 {
            // Events in between are lost, and count as missed.
            self.kept.clear();
            self.last = number - 1;
        }
        self.push(event);
    }

    /// There is no other master any more: this one numbers.
    pub fn number_alone(&mut self) {
        for event in self.unnumbered.take().unwrap_or_default() {
            self.push(event);
        }
    }

    /// What a follower is told that has seen everything up to event `seen`; None: nothing yet.
    pub fn next_after(&self, seen: u64) -> Option<NextEvent<'_, E>> {
        let before = self.last - self.kept.len() as u64;
        if seen < before {
            return Some(NextEvent::Missed {
                count: before - seen,
                last: before,
            });
        }
        let at = usize::try_from(seen - before).ok()?;
        let event = self.kept.get(at)?;
        Some(NextEvent::Kept(seen + 1, event))
    }

    fn push(&mut self, event: E) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
        self.last += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a follower is told that has seen `seen`, missed events as negative numbers.
    fn told(log: &EventLog<u64>, mut seen: u64) -> Vec<i64> {
        let mut told = Vec::new();
        while let Some(next) = log.next_after(seen) {
            match next {
                NextEvent::Missed { count, last } => {
                    told.push(-(count as i64));
                    seen = last;
                }
                NextEvent::Kept(number, event) => {
                    assert_eq!(number, seen + 1);
                    told.push(*event as i64);
                    seen = number;
                }
            }
        }
        assert!(seen >= log.last());
        told
    }

    fn filled(events: u64) -> EventLog<u64> {
        let mut log = EventLog::new(7);
        for event in 1..=events {
            assert_eq!(log.happened(event), Some(event));
        }
        log
    }

    #[test]
    fn events_are_numbered_without_a_gap_and_the_last_thousand_are_kept() {
        let log = filled(3);
        assert_eq!(told(&log, 0), [1, 2, 3]);
        assert_eq!(told(&log, 2), [3]);
        assert_eq!((told(&log, 3), told(&log, 9)), (vec![], vec![]));
        let kept = KEPT as u64;
        assert_eq!(told(&filled(kept), 0).first(), Some(&1));
        let log = filled(kept + 5);
        assert_eq!(told(&log, 0)[..3], [-5, 6, 7]);
        assert_eq!(told(&log, 4)[..2], [-1, 6]);
        assert_eq!(told(&log, 5).len(), KEPT);
        assert!(told(&EventLog::new(1), 0).is_empty());
    }

    #[test]
    fn a_log_is_restored_as_it_was_and_a_wrong_one_does_no_harm() {
        let log = filled(KEPT as u64 + 5);
        let same = EventLog::restored(log.id(), log.last(), log.kept().copied());
        assert_eq!(same, log);
        // More events than there can have been.
        let wrong = EventLog::restored(7, 1, [8, 9]);
        assert_eq!(told(&wrong, 0), [9]);
        assert_eq!(told(&EventLog::restored(7, 4, []), 0), [-4]);
    }

    #[test]
    fn two_masters_tell_one_sequence_also_when_the_old_one_ends_in_between() {
        let mut old = filled(2);
        let restored = EventLog::restored(old.id(), old.last(), old.kept().copied());
        let mut new = restored.beside_old_master([]);
        // What both make at the same time: the old one numbers its own first.
        assert_eq!(new.happened(20), None);
        assert_eq!(old.happened(10), Some(3));
        new.numbered(3, false, 10);
        let number = old.happened_there(20).expect("the old one numbers");
        new.numbered(number, true, 20);
        assert_eq!(told(&old, 0), [1, 2, 10, 20]);
        assert_eq!(told(&new, 0), told(&old, 0));
        // The old one ends before it has numbered the second of these.
        assert_eq!((new.happened(21), new.happened(22)), (None, None));
        let number = old.happened_there(21).expect("a number");
        new.numbered(number, true, 21);
        assert_eq!(new.unnumbered().map(Iterator::count), Some(1));
        new.number_alone();
        assert!(new.unnumbered().is_none());
        assert_eq!(new.happened(23), Some(7));
        assert_eq!(told(&new, 4), [21, 22, 23]);
    }

    #[test]
    fn only_the_old_master_numbers_and_what_was_lost_between_the_two_is_missed() {
        let mut new = filled(2).beside_old_master([30]);
        assert_eq!(new.happened_there(1), None);
        // Said twice: once is enough.
        new.numbered(2, false, 99);
        assert_eq!(told(&new, 0), [1, 2]);
        new.numbered(5, true, 30);
        assert_eq!(told(&new, 0), [-4, 30]);
        assert_eq!(new.unnumbered().map(Iterator::count), Some(0));
        let mut alone = filled(1);
        alone.numbered(2, false, 9);
        assert_eq!(told(&alone, 0), [1]);
    }
}
