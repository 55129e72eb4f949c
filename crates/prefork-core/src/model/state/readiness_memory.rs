//! What `--ready auto` remembers: whether workers of this command tell that they are ready.
//!
//! As long as none ever did, silence is enough; once one has, every later one must. A new worker command is a new start, and when its rollout is
//! undone, what was known of the old one still holds: so the memory belongs to generations, and is shared by those of one command.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::event::Generation;

/// Which generations run the same command, and which commands' workers have spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Each generation that may still start workers, and the first one of its command.
    pub families: BTreeMap<Generation, Generation>,
    /// Those first ones whose workers have told that they are ready.
    pub spoke: BTreeSet<Generation>,
}

impl Memory {
    /// A generation begins: with the command of `like`, or with a new one.
    pub(crate) fn begins(&mut self, generation: Generation, like: Option<Generation>) {
        let known = like.and_then(|like| self.families.get(&like));
        let family = known.copied().unwrap_or(generation);
        self.families.insert(generation, family);
    }

    /// A worker of this generation has told that it is ready.
    pub(crate) fn heard(&mut self, generation: Generation) {
        if let Some(family) = self.families.get(&generation) {
            self.spoke.insert(*family);
        }
    }

    /// Whether every worker of this generation must tell.
    pub(crate) fn requires_notification(&self, generation: Generation) -> bool {
        let family = self.families.get(&generation);
        family.is_some_and(|family| self.spoke.contains(family))
    }

    /// No worker will be started from this generation any more.
    pub(crate) fn forget(&mut self, generation: Generation) {
        self.families.remove(&generation);
        let families: BTreeSet<Generation> = self.families.values().copied().collect();
        self.spoke.retain(|family| families.contains(family));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_command_forgets_and_going_back_remembers() {
        let [one, two, three, four] = [1, 2, 3, 4].map(Generation);
        let mut memory = Memory::default();
        memory.begins(one, None);
        memory.heard(one);
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
        let mut memory = Memory::default();
        memory.begins(one, None);
        memory.heard(one);
        memory.begins(two, None);
        memory.forget(two);
        memory.begins(two, Some(one));
        assert!(memory.requires_notification(two));
    }
}
