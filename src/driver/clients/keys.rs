//! Idempotency keys: a request that is sent again, with the same key, joins the operation that it
//! has begun (P4). They outlive the client, and go along with both upgrades.

use std::collections::{BTreeMap, VecDeque};

use crate::model::ids::OpId;
use crate::wire::operation_id::OpWord;

/// How many are remembered.
const REMEMBERED: usize = 256;

/// The keys of the last requests.
#[derive(Default)]
pub(in crate::driver) struct Keys(VecDeque<Used>);

struct Used {
    key: String,
    op: OpId,
    /// The command that it was used for, as JSON; `None`: an older image did not say.
    command: Option<String>,
}

/// A request with a key that it has not begun an operation for yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::driver) struct Key {
    pub(in crate::driver) key: String,
    /// The command, as JSON.
    pub(in crate::driver) command: String,
}

/// Keys as another image or master gets them: each with its operation, oldest first; and the
/// commands, by key.
pub(in crate::driver) type KnownKeys = (Vec<(String, OpWord)>, BTreeMap<String, String>);

impl Keys {
    /// The operation that was begun with this key.
    ///
    /// # Errors
    /// It was begun by another command.
    pub(in crate::driver) fn find(&self, wanted: &Key) -> Result<Option<OpId>, OpId> {
        let Some(used) = self.0.iter().find(|used| used.key == wanted.key) else {
            return Ok(None);
        };
        match &used.command {
            Some(command) if *command != wanted.command => Err(used.op),
            _ => Ok(Some(used.op)),
        }
    }

    pub(super) fn remember(&mut self, Key { key, command }: Key, op: OpId) {
        let command = Some(command);
        self.0.push_back(Used { key, op, command });
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    pub(in crate::driver) fn handed_over(&self) -> KnownKeys {
        let known = self.0.iter();
        let keys = known.map(|used| (used.key.clone(), used.op.into()));
        let commands = self.0.iter();
        let commands = commands.filter_map(|used| Some((used.key.clone(), used.command.clone()?)));
        (keys.collect(), commands.collect())
    }

    pub(in crate::driver) fn taken_over((keys, mut commands): KnownKeys) -> Keys {
        let known = keys.into_iter().map(|(key, op)| Used {
            command: commands.remove(&key),
            key,
            op: op.into(),
        });
        Keys(known.collect())
    }
}
