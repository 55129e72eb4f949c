//! The stories of all slots, as an image hands them to the next one and an old master to a new one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::machines::stories::Stories;

/// [`Stories`] as JSON has them: the entries of each slot, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KnownStories {
    by_slot: BTreeMap<u32, Vec<Box<str>>>,
}

impl KnownStories {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }
}

impl From<&Stories<Box<str>>> for KnownStories {
    fn from(stories: &Stories<Box<str>>) -> Self {
        let all = stories.all();
        KnownStories {
            by_slot: all
                .map(|(slot, story)| (slot, story.cloned().collect()))
                .collect(),
        }
    }
}

impl From<KnownStories> for Stories<Box<str>> {
    fn from(known: KnownStories) -> Self {
        let all = known.by_slot.into_iter();
        all.flat_map(|(slot, story)| story.into_iter().map(move |entry| (slot, entry)))
            .collect()
    }
}
