//! The story of a slot: what has happened there, for who asks why it is as it is.
//!
//! ```json
//! {"at":"2026-01-31T12:00:00.000Z","event":"signal","pid":4711,"generation":2,"signal":"TERM",
//!  "to":"worker","reason":"reload","text":"worker 4711 of generation 2 gets TERM: ..."}
//! ```
//!
//! An entry is rendered once, when it happens, and stays text until a client asks: so it is short
//! in memory, and a master tells also those entries of an older or a newer one.
//!
//! - this file: the entries, and the document that a client gets;
//! - `told`: which fact is which entry;
//! - [`kept`]: the stories as one image or master hands them to the next.

pub mod kept;
mod told;

use serde::{Deserialize, Serialize};

use super::status::Slot;

pub use told::entry;

/// The longest text of an entry, in bytes: all stories together have a limit, in entries.
const LONGEST_TEXT: usize = 400;

/// Something that has happened to a slot. A field that means nothing for it is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// When.
    pub at: String,
    /// What it is, in one word: `started`, `signal`, `exited`, ...
    pub event: String,
    /// The worker's pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The worker's generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The signal that it got, or that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whom the signal went to: `worker` or `group`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why it was told to finish, or got the signal, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it ended: the words of `last_exit` in the status document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Whether it left a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<bool>,
    /// No worker starts before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The same for people.
    pub text: String,
}

impl Entry {
    fn because(mut self, reason: &str) -> Entry {
        self.reason = Some(reason.to_owned());
        self
    }

    /// The entry as it is kept.
    pub fn render(&self) -> Box<str> {
        let text = serde_json::to_string(self).unwrap_or_default();
        text.into_boxed_str()
    }

    /// Reads an entry; None: it is none.
    pub fn parse(text: &str) -> Option<Entry> {
        serde_json::from_str(text).ok()
    }
}

/// The reply to `why`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Story {
    /// The service's state: the word of the status document.
    pub state: String,
    /// The slot.
    pub slot: u32,
    /// How many slots there are.
    pub slots: usize,
    /// The slot as the status document has it; null: it was scaled away.
    pub now: Option<Slot>,
    /// The replacement that is not ready yet, if there is one.
    pub starting: Vec<Slot>,
    /// Those of its workers that are told to finish, and live.
    pub retiring: Vec<Slot>,
    /// What has happened, oldest first.
    pub entries: Vec<Entry>,
    /// The last lines on the worker's stderr; unknown as long as the master does not capture them.
    pub output: Option<Vec<String>>,
}

#[cfg(test)]
mod tests;
