//! The events that are kept, as an image hands them to the next one and an old master to a new one,
//! and the messages in which two masters agree on one sequence.

use serde::{Deserialize, Serialize};

use crate::model::machines::event_log::EventLog;

/// An [`EventLog`] as JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEvents {
    /// Tells the sequence of one service from that of the next.
    pub log: u64,
    /// The number of the newest event.
    pub last: u64,
    /// The events that are kept, the oldest first.
    pub kept: Vec<String>,
    /// Those that the old master beside this one has not numbered yet; None: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnumbered: Option<Vec<String>>,
}

impl From<&EventLog<String>> for KnownEvents {
    fn from(log: &EventLog<String>) -> Self {
        KnownEvents {
            log: log.id(),
            last: log.last(),
            kept: log.kept().cloned().collect(),
            unnumbered: log.unnumbered().map(|events| events.cloned().collect()),
        }
    }
}

impl From<KnownEvents> for EventLog<String> {
    fn from(known: KnownEvents) -> Self {
        let log = EventLog::restored(known.log, known.last, known.kept);
        match known.unnumbered {
            Some(unnumbered) => log.beside_old_master(unnumbered),
            None => log,
        }
    }
}

/// What two masters tell each other of what has happened. These are for the loops of the masters
/// alone: no decision of the model depends on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say", content = "of")]
pub enum EventMessage {
    /// An event of the new master, for the old one to number.
    Event(String),
    /// The old master has numbered an event; whether it is the receiver's own.
    Numbered(u64, bool, String),
    /// Something has happened to this slot in the sender: an entry of the slot's story.
    Story(u32, Box<str>),
}

impl EventMessage {
    /// The message.
    pub fn render(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a message; None: it is not about events.
    pub fn parse(message: &[u8]) -> Option<EventMessage> {
        serde_json::from_slice(message).ok()
    }
}
