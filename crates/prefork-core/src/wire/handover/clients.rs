//! The control socket and its connections, as JSON has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::values::Moment;
use crate::wire::operation_id::OpWord;
use crate::wire::text::Text;

/// The control socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Control {
    /// Its descriptor.
    pub fd: i32,
    /// Its path.
    pub path: Text,
    /// Device and inode of the path.
    pub inode: (u64, u64),
    /// Its mode.
    pub mode: u32,
    /// Its owner, if it was given one.
    pub owner: Option<u32>,
    /// Its group, if it was given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
}

/// Where einhorn's acks are heard, and who is connected there.
#[derive(Debug, Serialize, Deserialize)]
pub struct Acks {
    /// The socket.
    pub socket: Control,
    /// Whose line has not ended yet.
    pub clients: Vec<Client>,
}

/// The control connections.
#[derive(Debug, Serialize, Deserialize)]
pub struct Clients {
    /// Each.
    pub all: Vec<Client>,
    /// The last number given to a connection.
    pub last_client: u64,
    /// The last ticket.
    pub last_ticket: u64,
    /// Idempotency keys and their operations, oldest first.
    pub keys: Vec<(String, OpWord)>,
    /// The commands that the keys were used for, as JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub key_commands: BTreeMap<String, String>,
    /// How many were dropped.
    pub dropped: u64,
}

/// A control connection.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// Its number.
    pub number: u64,
    /// Its descriptor.
    pub fd: i32,
    /// Pid, uid and gid of the client.
    pub peer: (i32, u32, u32),
    /// What was read and is no whole line yet.
    pub partial: Text,
    /// What was read and not looked at.
    pub unread: Text,
    /// The rest of a line that is too long is skipped.
    pub skipping: bool,
    /// It says no more.
    pub ended: bool,
    /// What it has not taken yet.
    pub output: Text,
    /// Descriptors that go along with what it has not taken yet: the place of the byte that each
    /// lot goes with, and the lot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attached: Vec<(usize, Vec<i32>)>,
    /// Descriptors that have come: how many lines end before the one that each came with, and the
    /// descriptor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrived: Vec<(u64, i32)>,
    /// Some did not arrive: how many lines end before the one that they came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
    /// It goes once it has its answers.
    pub silent: bool,
    /// What its first line may be.
    #[serde(default, skip_serializing_if = "Entry::is_admitted")]
    pub entry: Entry,
    /// Since when it owes the rest of a line.
    pub owing_since: Option<Moment>,
    /// What it waits for.
    pub pending: Vec<Pending>,
    /// The events that it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Follows>,
}

impl Client {
    /// The descriptors that came or that go along, besides the connection's own.
    pub fn carried(&self) -> impl Iterator<Item = i32> + '_ {
        let attached = self.attached.iter().flat_map(|(_, lot)| lot);
        let arrived = self.arrived.iter().map(|(_, fd)| fd);
        attached.chain(arrived).copied()
    }
}

/// A client that follows events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Follows {
    /// The id of its request.
    pub id: Option<Value>,
    /// The number of the last event that it was told.
    pub seen: u64,
}

/// Whether a client has been let in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// Its first line must present the token.
    AwaitsToken,
    /// Its first line may present a token, which no one asks for.
    FirstLine,
    /// It is let in.
    #[default]
    Admitted,
}

impl Entry {
    fn is_admitted(&self) -> bool {
        *self == Entry::Admitted
    }
}

/// A request without a reply.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending {
    /// Its ticket.
    pub ticket: u64,
    /// Its id.
    pub id: Option<Value>,
    /// Its idempotency key, until it is an operation.
    pub key: Option<String>,
    /// The command that the key is for, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether the end of the operation is waited for.
    pub wait: bool,
    /// What it waits for.
    pub what: Awaited,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Awaited {
    /// The model's answer.
    Acceptance,
    /// The model's answer to a stop.
    Stop,
    /// The end of an operation.
    Op(OpWord),
    /// All slots to be ready.
    Ready,
}
