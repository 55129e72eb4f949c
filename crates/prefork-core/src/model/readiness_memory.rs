//! What `--ready auto` remembers: whether workers of this command notify that they are ready.
//!
//! As long as no worker ever did, silence is enough; once one has, every later one must. A new
//! worker command resets what was learnt, and when its rollout is undone, what was known of the old
//! command still holds: so the memory belongs to generations, and is shared by those of one
//! command.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ids::Generation;

/// Which generations run the same command, and which commands' workers notify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadinessMemory {
    /// Each generation that may still start workers, and the first one of its command.
    pub first_of_command: BTreeMap<Generation, Generation>,
    /// Those first generations whose workers have notified that they are ready.
    pub notifying: BTreeSet<Generation>,
}

impl ReadinessMemory {
    /// A generation begins: with the command of `like`, or with a new one.
    pub(crate) fn begins(&mut self, generation: Generation, like: Option<Generation>) {
        let known = like.and_then(|like| self.first_of_command.get(&like));
        let first = known.copied().unwrap_or(generation);
        self.first_of_command.insert(generation, first);
    }

    /// A worker of this generation has notified that it is ready.
    pub(crate) fn record_notification(&mut self, generation: Generation) {
        if let Some(first) = self.first_of_command.get(&generation) {
            self.notifying.insert(*first);
        }
    }

    /// Whether every worker of this generation must notify.
    pub(crate) fn requires_notification(&self, generation: Generation) -> bool {
        let first = self.first_of_command.get(&generation);
        first.is_some_and(|first| self.notifying.contains(first))
    }

    /// No worker will be started from this generation any more.
    pub(crate) fn forget(&mut self, generation: Generation) {
        self.first_of_command.remove(&generation);
        let known: BTreeSet<Generation> = self.first_of_command.values().copied().collect();
        self.notifying.retain(|first| known.contains(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_command_forgets_and_going_back_remembers() {
        let [one, two, three, four] = [1, 2, 3, 4].map(Generation);
        let mut memory = ReadinessMemory::default();
        memory.begins(one, None);
        memory.record_notification(one);
        memory.begins(two, Some(one));
        assert!(memory.requires_notification(two));
        memory.forget(one);
        memory.begins(three, None);
        assert!(!memory.requires_notification(three));
        memory.begins(four, Some(two));
        assert!(memory.requires_notification(four));
        memory.forget(three);
        assert!(memory.requires_notification(two));
    }

    #[test]
    fn the_same_number_may_begin_again_after_a_pin_that_failed() {
        let [one, two] = [1, 2].map(Generation);
        let mut memory = ReadinessMemory::default();
        memory.begins(one, None);
        memory.record_notification(one);
        memory.begins(two, None);
        memory.forget(two);
        memory.begins(two, Some(one));
        assert!(memory.requires_notification(two));
    }
}
