//! The status document of the control protocol, which `pf-status --json` prints.
//!
//! Names, order and meaning of the fields are API (protocol 1). Durations are seconds, sizes are
//! bytes, times are RFC 3339 in UTC, and a value that is unknown is `null`. Unknown fields are
//! ignored on reading, so that an older `pf-status` reads a newer master.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::operation_id::word;

/// The version of the control protocol that this crate reads and writes.
pub const PROTOCOL: u32 = 1;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of pf-tools.
    pub version: String,
    /// The control protocol's version: 1.
    pub protocol: u32,
    /// The master's pid.
    pub pid: i32,
    /// `master`, or during an upgrade by fork `old` or `new`.
    pub role: String,
    /// `starting`, `running`, `rolling`, `paused` or `stopping`.
    pub state: String,
    /// The generation that serves.
    pub generation: u64,
    /// When the master started.
    pub started_at: Option<String>,
    /// Seconds since the master started.
    pub uptime_s: Option<f64>,
    /// The serving generation's worker command, as given.
    pub command: Vec<String>,
    /// The serving generation's `PF_RELEASE`.
    pub release: Option<String>,
    /// The serving generation's program, resolved.
    pub program: Option<String>,
    /// The serving generation's working directory, resolved.
    pub cwd: Option<String>,
    /// The changes that reloads made to what the master was started with; `{}` if none.
    pub changes: Changes,
    /// How many workers are in each state.
    pub workers: Workers,
    /// The listeners, in the order of their fds.
    pub listeners: Vec<Listener>,
    /// One entry for each slot.
    pub slots: Vec<Slot>,
    /// Replacements that are not ready yet.
    pub starting: Vec<Slot>,
    /// Workers that are retiring: they were told to finish.
    pub retiring: Vec<Slot>,
    /// The last rollout.
    pub rollout: Option<Rollout>,
    /// The last 100 operations, oldest first.
    pub operations: Vec<Operation>,
    /// Totals since the master started.
    pub counters: Counters,
}

/// How many workers are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers that are not ready yet, replacements included.
    pub starting: usize,
    /// Workers that are retiring.
    pub retiring: usize,
    /// Slots that wait before the next start.
    pub backoff: usize,
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The listener's name, if it has one.
    pub name: Option<String>,
    /// The address in the grammar of `pf-listen`, with the real port.
    pub address: String,
    /// The listener's fd in the workers.
    pub fd: i32,
    /// Connections that wait to be accepted.
    pub queued: Option<u32>,
    /// How many connections can wait (the effective value); null if the socket does not listen.
    pub backlog: Option<u32>,
    /// What the kernel has dropped because the queue was full: connections, of a datagram socket
    /// datagrams. Null for a Unix socket, whose clients wait instead.
    pub drops: Option<u32>,
    /// How long the oldest one in the queue has waited. The master does not ask the kernel for
    /// this, so it is no part of the document: `pf-status` fills it in where it is shown.
    #[serde(skip)]
    pub longest_wait: Option<Duration>,
}

/// One slot, or one worker that holds no slot: a replacement or a retiring worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// The slot's number.
    pub slot: u32,
    /// The process that holds the slot now.
    pub pid: Option<i32>,
    /// The generation of that process.
    pub generation: Option<u64>,
    /// `starting`, `ready`, `held`, `stopping`, `backoff`, `down` or `empty`.
    pub state: String,
    /// When the process started.
    pub started_at: Option<String>,
    /// Seconds since the process started.
    pub uptime_s: Option<f64>,
    /// Seconds from the start of the process until it was ready.
    pub ready_after_s: Option<f64>,
    /// Seconds since the last beat; null if there was none.
    pub heartbeat_age_s: Option<f64>,
    /// The beat counter of the heartbeat page.
    pub beats: Option<u64>,
    /// Requests finished, from the heartbeat page; null if the worker never counted any.
    pub requests: Option<u64>,
    /// Open connections, from the heartbeat page.
    pub connections: Option<u64>,
    /// The text of the last `STATUS=`.
    pub status: Option<String>,
    /// How often the slot's process was replaced because it died.
    pub restarts: u64,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Processor time, user and system.
    pub cpu_s: Option<f64>,
    /// Processor time of all workers that the slot has had so far.
    pub cpu_total_s: f64,
    /// How the slot's previous process ended.
    pub last_exit: Option<LastExit>,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastExit {
    /// `exited`, `signaled`, `killed-heartbeat`, `killed-graceful-timeout`,
    /// `killed-start-timeout`, `killed-limit`, `oom`, `exec-failed`, `spawn-failed` or `stopped`.
    pub cause: String,
    /// The exit code.
    pub code: Option<i32>,
    /// The signal that ended the process, without `SIG`.
    pub signal: Option<String>,
    /// Whether the process left a core.
    pub core: Option<bool>,
    /// When the process ended.
    pub at: Option<String>,
    /// The last lines on stderr, with `--capture`.
    pub output: Option<Vec<String>>,
}

/// The last rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// The operation's id.
    #[serde(deserialize_with = "word")]
    pub op: String,
    /// `start`, `reload`, `rollback` or `upgrade`.
    pub kind: String,
    /// The generation that served before; null for the first rollout.
    pub from: Option<u64>,
    /// The generation that the rollout starts.
    pub to: u64,
    /// `running`, `done`, `rolled-back` or `aborted`.
    pub result: String,
    /// Why it was not done; null if it was, or while it runs.
    pub error: Option<String>,
    /// Seconds from its begin to its end; null while it runs.
    pub took_s: Option<f64>,
}

/// One generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generation {
    /// The generation's number.
    pub generation: u64,
    /// `start`, `reload`, `rollback` or `upgrade`.
    pub kind: String,
    /// `running`, `done`, `rolled-back` or `aborted`.
    pub result: String,
    /// Why it was not done; null if it was, or while it runs.
    pub error: Option<String>,
    /// When its rollout began.
    pub at: Option<String>,
    /// Seconds that its rollout took; null while it runs.
    pub took_s: Option<f64>,
    /// Its `PF_RELEASE`.
    pub release: Option<String>,
    /// Its working directory, resolved; null if it is not known.
    pub cwd: Option<String>,
    /// Its worker command, as given.
    pub command: Vec<String>,
    /// Whether it serves.
    pub serves: bool,
    /// Whether a rollback can go to it.
    pub kept: bool,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// The operation's id, for `pf-ctl wait --op`.
    #[serde(deserialize_with = "word")]
    pub op: String,
    /// What the request was: `reload`, `scale`, ...
    pub kind: String,
    /// `running`, `done`, `failed`, `rolled-back` or `aborted`.
    pub result: String,
    /// Why it was not done; null if it was, or while it runs.
    pub error: Option<String>,
    /// When the operation began.
    pub at: Option<String>,
    /// Seconds from its begin to its end; null while it runs.
    pub took_s: Option<f64>,
}

/// Totals since the service was started. They never go down, also through reloads and upgrades.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Workers started.
    pub spawned: u64,
    /// Workers that became ready.
    pub readied: u64,
    /// Workers that died by themselves.
    pub died: u64,
    /// Workers that ended before they were ready.
    pub failed_starts: u64,
    /// Workers that had to be killed.
    pub killed: u64,
    /// Rollouts done.
    pub rollouts: u64,
    /// Rollouts rolled back.
    pub rolled_back: u64,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
    /// Control clients dropped because they did not read.
    pub clients_dropped: u64,
    /// Requests finished, those of dead workers included.
    pub requests: u64,
    /// Connections so far, those of dead workers included.
    pub connections: u64,
    /// Workers that ended, by cause (see [`LastExit`]).
    pub exits: BTreeMap<String, u64>,
}
