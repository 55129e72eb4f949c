//! The control protocol: one JSON object a line, in both directions.
//!
//! A client sends a [`Request`], `{"cmd": "scale", "workers": "+1", "id": 7}`. The master answers
//! with [`Response`]s: any number of [`Progress`] lines, `{"event": ..., "id": 7}`, then exactly
//! one [`Reply`], `{"ok": true, ..., "id": 7}` or
//! `{"ok": false, "error": {"code": "busy", "message": "..."}, "id": 7}`.
//!
//! Unknown fields are ignored. An unknown command or a bad line gets an error reply, and the
//! connection stays open.
//!
//! - this file: what the lines say;
//! - `lines`: a line as it comes, to what it says; the line that presents a token.

mod lines;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::changes::Changes;
use crate::wire::operation_id::{optional_word, word};
use crate::wire::status::Status;
use crate::wire::story::Story;

pub use lines::{parse_request, parse_response, parse_token, token_line};

/// The longest request line, its newline included.
pub const MAX_REQUEST: usize = 64 * 1024;

/// A request: a command with its operands, and what every request may have besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The command and its operands.
    #[serde(flatten)]
    pub command: ControlCommand,
    /// Repeated in every line that answers this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// Whether the reply comes when the operation has ended (the default), or as soon as it has
    /// begun, with its id.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub wait: bool,
    /// Makes the request idempotent: a second request with the same key joins the operation that
    /// the first one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

fn yes() -> bool {
    true
}

fn is_yes(wait: &bool) -> bool {
    *wait
}

fn is_no(flag: &bool) -> bool {
    !*flag
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum ControlCommand {
    /// Return the status document.
    Status,
    /// Return the story of a slot.
    Why {
        /// The slot.
        slot: u32,
    },
    /// Return the listeners, with their queues; or take one away.
    Listeners {
        /// The listener's name, or its address: the workers roll to a generation without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remove: Option<String>,
    },
    /// Roll the workers to a generation that also has the listeners whose descriptors come along.
    AddFds {
        /// A name for each of the descriptors, or null; None: as many as come, without names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        names: Option<Vec<Option<String>>>,
    },
    /// Return the listeners, with their descriptors.
    TakeFds,
    /// Roll to a new generation.
    Reload {
        /// Change nothing; return what would happen.
        #[serde(default, skip_serializing_if = "is_no")]
        dry_run: bool,
        /// Deploy nothing: the new generation is a copy of the one that serves.
        #[serde(default, skip_serializing_if = "is_no")]
        copy: bool,
        /// What changes from the new generation on.
        #[serde(flatten)]
        changes: Changes,
    },
    /// Execute a new image of the master in place of this one, then roll to a new generation.
    Upgrade {
        /// Change nothing; return what would happen.
        #[serde(default, skip_serializing_if = "is_no")]
        dry_run: bool,
        /// Deploy nothing: execute the image that runs, and roll to a copy of the generation that
        /// serves.
        #[serde(default, skip_serializing_if = "is_no")]
        copy: bool,
        /// Start a new master beside this one instead; each worker of this one ends when the new
        /// master has a worker ready for its slot.
        #[serde(default, skip_serializing_if = "is_no")]
        fork: bool,
        /// With `fork`: both masters serve until one of them gets QUIT.
        #[serde(default, skip_serializing_if = "is_no")]
        manual: bool,
    },
    /// Return the generations, with their releases.
    History,
    /// Follow events: a line each, until the master ends.
    Events {
        /// From the event after the one with this number on; None: from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<u64>,
        /// Only if these are the events of this service: a word that was told before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        log: Option<String>,
    },
    /// End the running rollout, or roll to the release before.
    Rollback {
        /// Roll to the release of this generation instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
    },
    /// Set the number of slots: `"4"`, `"+1"`, `"-2"`, or a number.
    Scale {
        /// The new number, or the difference.
        workers: Value,
    },
    /// Stop the service.
    Stop {
        /// A quick stop instead of a graceful one.
        #[serde(default, skip_serializing_if = "is_no")]
        now: bool,
    },
    /// Stop the workers, keep the master and the listeners.
    Pause,
    /// Start the workers again after a pause.
    Resume,
    /// Replace one worker.
    RestartWorker {
        /// The worker's slot.
        slot: u32,
    },
    /// Reopen the logs, and pass USR1 on to the workers.
    Reopen,
    /// Send a signal to all workers, or to the worker of one slot; with neither, to the master.
    Signal {
        /// The signal's name.
        signal: String,
        /// Send it to all workers.
        #[serde(default, skip_serializing_if = "is_no")]
        workers: bool,
        /// Send it to the worker of this slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// End the drain of a generation now.
    Retire {
        /// The generation's number.
        generation: u64,
    },
    /// Wait until the service is ready, or until an operation has ended: exactly one of the two.
    Wait {
        /// Wait until all slots are ready and no rollout runs.
        #[serde(default, skip_serializing_if = "is_no")]
        ready: bool,
        /// Wait until this operation has ended.
        #[serde(
            default,
            skip_serializing_if = "Option::is_none",
            deserialize_with = "optional_word"
        )]
        op: Option<String>,
    },
}

/// Why a request failed. `code` decides the exit code of `pf-ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure.
    pub code: Code,
    /// One line for people.
    pub message: String,
}

/// The kinds of failure; the words are API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is not a request: not UTF-8, not JSON, too long, or a field is missing or of the
    /// wrong type.
    BadRequest,
    /// There is no such command.
    UnknownCommand,
    /// An operand makes no sense in any state of the service.
    Usage,
    /// Another operation runs.
    Busy,
    /// The request makes no sense in this state of the service.
    Refused,
    /// The operation failed, and the old state was kept.
    Failed,
    /// A stop ended the operation.
    Aborted,
    /// The master that the operation was asked of died, so its outcome is not known.
    MasterDied,
    /// This master leaves, and another one is the service: that one can be asked.
    Moved,
    /// The client has no permission.
    Permission,
    /// A code that this version does not know, from a newer master.
    #[serde(other)]
    Unknown,
}

/// The one reply to a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Whether the request was done.
    pub ok: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The operation's id, if the request began or joined one.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_word"
    )]
    pub op: Option<String>,
    /// One line for people: what was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a person should know although the request was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The generation that serves after the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The reply to `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// The reply to `why`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Box<Story>>,
    /// The reply to `listeners`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<crate::wire::status::Listener>>,
    /// The reply to `history`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generations: Option<Vec<crate::wire::status::Generation>>,
    /// The reply to `reload` or `upgrade` with `dry_run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

/// A step of a running operation, sent before its reply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// `progress`.
    pub event: String,
    /// The operation's id.
    #[serde(deserialize_with = "word")]
    pub op: String,
    /// Steps taken.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// One line for people: what this step did.
    pub message: String,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

/// What a rollout would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// What an upgrade would execute in place of the master; None: not an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<MasterPlan>,
    /// The worker command, before and after.
    pub command: Change<Vec<String>>,
    /// The worker's program, before and after.
    pub program: Change<String>,
    /// The program's inode, before and after.
    pub inode: Change<u64>,
    /// The working directory, before and after.
    pub cwd: Change<String>,
    /// Differences of the environment, one variable each: `+K=V`, `-K=V`.
    pub environment: Vec<String>,
    /// Differences of the listeners: `+ADDRESS`, `-ADDRESS`.
    pub listeners: Vec<String>,
    /// The most workers that will be alive at once, without those that drain.
    pub peak_workers: usize,
}

/// What an upgrade would execute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MasterPlan {
    /// The program that runs, and the one that would be executed (with `--reexec`: sh).
    pub program: Change<String>,
    /// The inodes of both programs: under the same name there may be another file by now.
    pub inode: Change<u64>,
    /// The command line that would be executed.
    pub command: Vec<String>,
}

/// A value before and after a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Change<T> {
    pub from: Option<T>,
    pub to: Option<T>,
}

/// One line that the master sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// A step of a running operation.
    Progress(Progress),
    /// The reply, which ends the request.
    Reply(Box<Reply>),
}
