//! What has happened to each slot: the last of it, kept for who asks why a slot is as it is. Run by
//! the driver, which gives it entries as lines and never looks into them.
//!
//! A slot that was scaled away keeps its story: it may be asked why, and it may come back. There is
//! a story for each number that a slot has had, and a story has a limit, so all of them together
//! take no more memory than so many lines for each slot.

use std::collections::{BTreeMap, VecDeque};

/// How many entries of a slot are kept. A worker's life has six: it is started, executed, ready,
/// told to finish, signalled, and it ends. So this is the life of the worker and of the three
/// before it.
pub const KEPT: usize = 24;

/// The last entries of each slot, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stories<E> {
    by_slot: BTreeMap<u32, VecDeque<E>>,
}

impl<E> Stories<E> {
    /// Something happened to this slot. The oldest entry gives way.
    pub fn add(&mut self, slot: u32, entry: E) {
        let story = self.by_slot.entry(slot).or_default();
        while story.len() >= KEPT {
            story.pop_front();
        }
        story.push_back(entry);
    }

    /// The entries of this slot; None: nothing has happened there that is kept.
    pub fn of(&self, slot: u32) -> Option<impl Iterator<Item = &E>> {
        self.by_slot.get(&slot).map(VecDeque::iter)
    }

    /// All slots with their entries.
    pub fn all(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = &E>)> {
        let all = self.by_slot.iter();
        all.map(|(slot, story)| (*slot, story.iter()))
    }
}

impl<E> FromIterator<(u32, E)> for Stories<E> {
    /// Stories that another image or master has kept: the entries of a slot in their order.
    fn from_iter<T: IntoIterator<Item = (u32, E)>>(entries: T) -> Self {
        let mut stories = Stories {
            by_slot: BTreeMap::new(),
        };
        for (slot, entry) in entries {
            stories.add(slot, entry);
        }
        stories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r70_the_last_entries_of_each_slot_are_kept() {
        let mut stories = Stories::default();
        assert!(stories.of(0).is_none());
        for number in 0..100 {
            stories.add(0, number);
        }
        stories.add(7, 1000);
        let of = |slot| stories.of(slot).map(|story| story.copied().collect());
        assert_eq!(of(0), Some((100 - KEPT..100).collect::<Vec<_>>()));
        assert_eq!((of(7), of(1)), (Some(vec![1000]), None));
        let entries = stories.all();
        let again = entries.flat_map(|(slot, story)| story.map(move |entry| (slot, *entry)));
        assert_eq!(again.collect::<Stories<usize>>(), stories);
    }
}
