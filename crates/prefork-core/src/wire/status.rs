//! The status document of the control protocol: what `pf-status --json` prints.
//!
//! Names, order and meaning are API (protocol 1). Durations are seconds, sizes bytes, times RFC 3339 UTC, and
//! whatever is unknown is `null`. Unknown fields are ignored when read, so that an older `pf-status` reads a newer master.

use serde::{Deserialize, Serialize};

use super::changes::Changes;

/// The version of the control protocol that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// Everything that a master tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The toolkit's version.
    pub version: String,
    /// The control protocol's version: 1.
    pub protocol: u32,
    /// The master's pid.
    pub pid: i32,
    /// `master`; during an upgrade by fork `old` or `new`.
    pub role: String,
    /// `starting`, `running`, `rolling`, `paused` or `stopping`.
    pub state: String,
    /// The generation that serves.
    pub generation: u64,
    /// When the master started.
    pub started_at: Option<String>,
    /// Seconds since then.
    pub uptime_s: Option<f64>,
    /// The serving generation's worker command, as given.
    pub command: Vec<String>,
    /// The serving generation's `PF_RELEASE`.
    pub release: Option<String>,
    /// The serving generation's program, resolved.
    pub program: Option<String>,
    /// The serving generation's working directory, resolved.
    pub cwd: Option<String>,
    /// What reloads have changed of what the master was started with: `{}` if nothing.
    pub changes: Changes,
    /// How many workers are in which state.
    pub workers: Workers,
    /// The listeners, in the order of their fds.
    pub listeners: Vec<Listener>,
    /// One entry a slot.
    pub slots: Vec<Slot>,
    /// Replacements that are not ready yet.
    pub starting: Vec<Slot>,
    /// Workers that were told to finish.
    pub retiring: Vec<Slot>,
    /// The last rollout.
    pub rollout: Option<Rollout>,
    /// The last 20 operations, oldest first.
    pub operations: Vec<Operation>,
    /// Totals since the master started.
    pub counters: Counters,
}

/// How many workers are in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workers {
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers that are not ready yet, replacements included.
    pub starting: usize,
    /// Workers that were told to finish.
    pub retiring: usize,
    /// Slots that wait before their next start.
    pub backoff: usize,
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its address, in the grammar of `pf-listen`, the real port filled in.
    pub address: String,
    /// The fd that workers have it at.
    pub fd: i32,
    /// Connections that wait to be accepted.
    pub queued: Option<u32>,
    /// The most that can wait (the effective value); null where the socket does not listen.
    pub backlog: Option<u32>,
}

/// One slot, or one worker that holds none (a replacement, a retiring one).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// The slot's number.
    pub slot: u32,
    /// The process that holds it now.
    pub pid: Option<i32>,
    /// That process's generation.
    pub generation: Option<u64>,
    /// `starting`, `ready`, `held`, `stopping`, `backoff`, `down` or `empty`.
    pub state: String,
    /// When the process started.
    pub started_at: Option<String>,
    /// Seconds since then.
    pub uptime_s: Option<f64>,
    /// Seconds from its start until it was ready.
    pub ready_after_s: Option<f64>,
    /// Seconds since its last beat; null if it never beat.
    pub heartbeat_age_s: Option<f64>,
    /// The beat counter of its heartbeat page.
    pub beats: Option<u64>,
    /// Requests that it has finished, from its heartbeat page; null if it never counted any.
    pub requests: Option<u64>,
    /// Connections that it has open, from its heartbeat page.
    pub connections: Option<u64>,
    /// Its last `STATUS=` text.
    pub status: Option<String>,
    /// How often the slot's process has been replaced because it died.
    pub restarts: u64,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Processor time, user and system.
    pub cpu_s: Option<f64>,
    /// How the slot's previous process ended.
    pub last_exit: Option<LastExit>,
}

/// How a process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastExit {
    /// `exited`, `signaled`, `killed-heartbeat`, `killed-graceful-timeout`, `killed-start-timeout`, `killed-limit`, `oom`,
    /// `exec-failed`, `spawn-failed` or `stopped`.
    pub cause: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it, without `SIG`.
    pub signal: Option<String>,
    /// Whether it left a core.
    pub core: Option<bool>,
    /// When.
    pub at: Option<String>,
    /// Its last lines on stderr, with `--capture`.
    pub output: Option<Vec<String>>,
}

/// The last rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// The operation's number.
    pub op: u64,
    /// `start`, `reload`, `rollback` or `upgrade`.
    pub kind: String,
    /// The generation that served before; null for the first rollout.
    pub from: Option<u64>,
    /// The generation that it rolls to.
    pub to: u64,
    /// `running`, `done`, `rolled-back` or `aborted`.
    pub result: String,
    /// Why it was not done.
    pub error: Option<String>,
    /// Seconds that it took; null while it runs.
    pub took_s: Option<f64>,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// Its number: what `pf-ctl wait --op` takes.
    pub op: u64,
    /// What was asked for: `reload`, `scale`, ...
    pub kind: String,
    /// `running`, `done`, `failed`, `rolled-back` or `aborted`.
    pub result: String,
    /// Why it was not done.
    pub error: Option<String>,
    /// When it began.
    pub at: Option<String>,
    /// Seconds that it took; null while it runs.
    pub took_s: Option<f64>,
}

/// Totals since the master started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Workers started.
    pub spawned: u64,
    /// Workers that became ready.
    pub readied: u64,
    /// Workers that ended without being asked to.
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
}
