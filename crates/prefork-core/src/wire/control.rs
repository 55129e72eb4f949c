//! The control protocol: one JSON object a line, both ways.
//!
//! A client sends `{"cmd": "scale", "workers": "+1", "id": 7}`; the master answers with any number of
//! `{"event": ..., "id": 7}` lines and exactly one reply, `{"ok": true, ..., "id": 7}` or
//! `{"ok": false, "error": {"code": "busy", "message": "..."}, "id": 7}`. Unknown fields are ignored; an unknown command or a
//! bad line is an error reply, and the connection goes on.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::changes::Changes;
use super::status::Status;

/// The longest request line, its newline included.
pub const MAX_REQUEST: usize = 64 * 1024;

/// A request: the command with its operands, and what any request may carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The command and its operands.
    #[serde(flatten)]
    pub command: ControlCommand,
    /// Echoed in everything that answers this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// Whether the reply comes when the operation has ended (the default) or as soon as it has begun, with its number.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub wait: bool,
    /// The same key runs once: a repeated request joins the operation that the first one began.
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
    /// The status document.
    Status,
    /// The listeners, with their queues.
    Listeners,
    /// Roll to a new generation.
    Reload {
        /// Only tell what would happen.
        #[serde(default, skip_serializing_if = "is_no")]
        dry_run: bool,
        /// What changes from then on.
        #[serde(flatten)]
        changes: Changes,
    },
    /// Put another image of the master in place of this one, then roll to a new generation.
    Upgrade {
        /// Only tell what would happen.
        #[serde(default, skip_serializing_if = "is_no")]
        dry_run: bool,
        /// Start another master beside this one instead, and let the workers go one for one.
        #[serde(default, skip_serializing_if = "is_no")]
        fork: bool,
        /// With `fork`: both serve until one is told to quit.
        #[serde(default, skip_serializing_if = "is_no")]
        manual: bool,
    },
    /// End a running rollout, or roll to the generation before.
    Rollback,
    /// Set the number of slots: `"4"`, `"+1"`, `"-2"`, or a number.
    Scale {
        /// The operand.
        workers: Value,
    },
    /// Stop the service.
    Stop {
        /// Quick instead of graceful.
        #[serde(default, skip_serializing_if = "is_no")]
        now: bool,
    },
    /// Stop the workers, keep the master and the listeners.
    Pause,
    /// Bring them back.
    Resume,
    /// Replace one worker.
    RestartWorker {
        /// Its slot.
        slot: u32,
    },
    /// Reopen the logs and pass USR1 on.
    Reopen,
    /// Deliver a signal to all workers, or to the one that holds a slot; to the master itself with neither.
    Signal {
        /// The signal's name.
        signal: String,
        /// To all workers.
        #[serde(default, skip_serializing_if = "is_no")]
        workers: bool,
        /// To the worker that holds this slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// End the drain of a generation now.
    Retire {
        /// Its number.
        generation: u64,
    },
    /// Wait for a state or for the end of an operation; exactly one of the two.
    Wait {
        /// Until all slots are ready and no rollout runs.
        #[serde(default, skip_serializing_if = "is_no")]
        ready: bool,
        /// Until this operation has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        op: Option<u64>,
    },
}

/// Why a request was not done. `code` decides the exit code of `pf-ctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// One line for people.
    pub message: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line was no request: not JSON, not UTF-8, too long, a field missing or of the wrong type.
    BadRequest,
    /// No such command.
    UnknownCommand,
    /// An operand makes no sense whatever the state.
    Usage,
    /// Another operation is under way.
    Busy,
    /// It makes no sense now.
    Refused,
    /// It was tried and failed; the old state holds.
    Failed,
    /// A stop came between.
    Aborted,
    /// The client may not.
    Permission,
    /// A code that this version does not know (from a newer master).
    #[serde(other)]
    Unknown,
}

/// The one reply to a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The operation's number, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<u64>,
    /// One line for people: what was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the reader should know although it was done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The generation that serves after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The answer to `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    /// The answer to `listeners`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<super::status::Listener>>,
    /// The answer to `reload` with `dry_run`.
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
    /// The operation's number.
    pub op: u64,
    /// Steps taken.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// One line for people: what has just happened.
    pub message: String,
    /// The request's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
}

/// What a rollout would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The master's own program and its inode, running and on disk; None where the master stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<MasterPlan>,
    /// The worker command, now and then.
    pub command: Change<Vec<String>>,
    /// The program, now and then.
    pub program: Change<String>,
    /// The program's inode, now and then.
    pub inode: Change<u64>,
    /// The working directory, now and then.
    pub cwd: Change<String>,
    /// Environment differences: `+K=V`, `-K=V`, one a line.
    pub environment: Vec<String>,
    /// Listener differences: `+ADDRESS`, `-ADDRESS`.
    pub listeners: Vec<String>,
    /// The most workers that will be alive at once, draining ones aside.
    pub peak_workers: usize,
}

/// What an upgrade would execute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MasterPlan {
    /// The program that runs, and the one that would be executed (`--reexec`: sh).
    pub program: Change<String>,
    /// Their inodes: the same name may stand for another file.
    pub inode: Change<u64>,
    /// The command line that would be executed.
    pub command: Vec<String>,
}

/// A value now, and what it would become.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change<T> {
    /// Now.
    pub from: Option<T>,
    /// Then.
    pub to: Option<T>,
}

/// Anything that the master sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Response {
    /// A step of a running operation.
    Progress(Progress),
    /// The end of the request.
    Reply(Box<Reply>),
}

/// Reads one line from the master.
pub fn parse_response(line: &str) -> Result<Response, String> {
    // Twice over the text, and nothing is built but what is asked for: a status of a thousand slots comes this way.
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        event: Option<IgnoredAny>,
    }
    let kind: Kind = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let answer = if kind.event.is_some() {
        serde_json::from_str(line).map(Response::Progress)
    } else {
        serde_json::from_str(line).map(|reply| Response::Reply(Box::new(reply)))
    };
    answer.map_err(|error| error.to_string())
}

/// Reads one request line; total, whatever the bytes. The id is told even where the request is bad, so that a client that
/// sent several knows which one failed.
pub fn parse_request(line: &[u8]) -> Result<Request, (Failure, Option<Value>)> {
    let fail = |code, message: String, id| Err((Failure { code, message }, id));
    let Ok(text) = std::str::from_utf8(line) else {
        return fail(Code::BadRequest, "the line is not UTF-8".into(), None);
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            return fail(
                Code::BadRequest,
                format!("the line is not JSON: {error}"),
                None,
            );
        }
    };
    let id = value.get("id").cloned();
    let Some(cmd) = value.get("cmd").and_then(Value::as_str).map(str::to_owned) else {
        return fail(
            Code::BadRequest,
            "a request is an object with a \"cmd\"".into(),
            id,
        );
    };
    serde_json::from_value(value).or_else(|error| {
        let text = error.to_string();
        // serde lists all commands in this message; the name alone is what the reader needs.
        if text.starts_with("unknown variant") {
            return fail(Code::UnknownCommand, format!("unknown command '{cmd}'"), id);
        }
        fail(Code::BadRequest, format!("{cmd}: {text}"), id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_as_the_contract_writes_it() {
        let request =
            parse_request(br#"{"cmd": "scale", "workers": "+1", "id": 7}"#).expect("valid");
        assert_eq!(
            request.command,
            ControlCommand::Scale {
                workers: "+1".into()
            }
        );
        assert_eq!(request.id, Some(7.into()));
        assert!(request.wait);
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_commands_named() {
        assert!(parse_request(br#"{"cmd":"restart-worker","slot":1,"shiny":true}"#).is_ok());
        let (failure, id) = parse_request(br#"{"cmd":"dance","id":"x"}"#).expect_err("unknown");
        assert_eq!(failure.code, Code::UnknownCommand);
        assert_eq!(failure.message, "unknown command 'dance'");
        assert_eq!(id, Some("x".into()));
    }

    #[test]
    fn hostile_lines_are_errors() {
        for line in [
            &b""[..],
            b"{",
            b"[]",
            b"7",
            b"\xff\xfe",
            br#"{"cmd":3}"#,
            br#"{"cmd":"scale"}"#,
            br#"{"cmd":"restart-worker","slot":-1}"#,
        ] {
            let (failure, _) = parse_request(line).expect_err("bad");
            assert_eq!(failure.code, Code::BadRequest, "{failure:?}");
            assert!(!failure.message.contains('\n'));
        }
    }
}
