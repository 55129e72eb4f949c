//! What has happened to each slot: the last of it, kept for who asks why a slot is as it is. Run by
//! the driver, which gives it entries as lines and never looks into them.
//!
//! A slot that was scaled away keeps its story: it may be asked why, and it may come back. There is
//! a story for each number that a slot has had. All of them together have a limit, since they are
//! written as a whole at an upgrade: the more stories there are, the shorter is each.

use std::collections::{BTreeMap, VecDeque};

/// How many entries of a slot are kept. A worker's life has six: it is started, executed, ready,
/// told to finish, signalled, and it ends. So this is the life of the worker and of the three
/// before it.
pub const KEPT: usize = 24;

/// How many entries of all slots are kept, but at least the last one of each: about 4 MiB, as an
/// entry has about a third of a KiB.
pub const KEPT_OF_ALL: usize = 12 * 1024;

/// How many entries of each slot are kept where there are so many stories. The same for a whole
/// range of numbers: all stories are shortened when a range is left, and not for each new slot.
fn kept_of_each(stories: usize) -> usize {
    (KEPT_OF_ALL / stories.next_power_of_two()).clamp(1, KEPT)
}

/// The last entries of each slot, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stories<E> {
    by_slot: BTreeMap<u32, VecDeque<E>>,
}

impl<E> Stories<E> {
    /// Something happened to this slot. The oldest entry gives way.
    pub fn add(&mut self, slot: u32, entry: E) {
        let before = kept_of_each(self.by_slot.len());
        let is_new = !self.by_slot.contains_key(&slot);
        let kept = kept_of_each(self.by_slot.len() + usize::from(is_new));
        if kept < before {
            for story in self.by_slot.values_mut() {
                story.drain(..story.len().saturating_sub(kept));
                story.shrink_to_fit();
            }
        }
        let story = self.by_slot.entry(slot).or_default();
        while story.len() >= kept {
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
    fn r70_all_stories_together_have_a_limit_and_each_slot_keeps_its_last_entry() {
        let mut stories = Stories::default();
        let count = |stories: &Stories<u32>| stories.all().map(|(_, story)| story.count()).sum();
        for slots in [1, 512, 513, 1000, 3000, 10_000, 20_000] {
            for number in 0..KEPT as u32 {
                for slot in 0..slots {
                    stories.add(slot, number);
                }
            }
            let all: usize = count(&stories);
            assert!(all <= KEPT_OF_ALL.max(slots as usize), "{slots}: {all}");
            let each = kept_of_each(slots as usize);
            assert_eq!(all, each * slots as usize, "{slots}");
            let lasts = stories.all().map(|(_, story)| story.last().copied());
            assert!(lasts.into_iter().all(|last| last == Some(KEPT as u32 - 1)));
        }
        assert_eq!((kept_of_each(1), kept_of_each(512)), (KEPT, KEPT));
        assert_eq!((kept_of_each(513), kept_of_each(1025)), (12, 6));
        assert_eq!((kept_of_each(10_000), kept_of_each(1 << 20)), (1, 1));
    }

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
