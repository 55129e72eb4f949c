//! What a generation was pinned to, as an image hands it to the next one and an old master to a new
//! one.

use serde::{Deserialize, Serialize};

use super::closed::ClosedListener;
use super::values::Settings;
use crate::wire::changes::Changes;
use crate::wire::environment::Environment;
use crate::wire::exports::Protocol;
use crate::wire::text::Text;

/// A generation's pin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pin {
    /// Its number.
    pub generation: u64,
    /// Its settings.
    pub policy: Settings,
    /// The working directory, resolved.
    pub cwd: Text,
    /// The program, resolved.
    pub program: Text,
    /// The command as given.
    pub command: Vec<Text>,
    /// The environment before the master's own variables.
    pub environment: Environment,
    /// Which set of listeners.
    pub listeners: usize,
    /// What reloads changed of what the master was started with.
    #[serde(default)]
    pub changes: Changes,
    /// In which protocols its workers are told of the listeners, besides systemd's.
    #[serde(default)]
    pub exports: Vec<Protocol>,
    /// The number of the heartbeat page in its workers.
    pub beat_fd: i32,
    /// Where its workers' notification sockets are made; None: they are abstract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_dir: Option<Text>,
    /// Its listeners are not open any more: what was known of each. An image that does not know
    /// this gives the generation what new ones get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Vec<ClosedListener>>,
}
