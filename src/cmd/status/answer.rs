//! The question to one master, and the exit code that follows from its answer.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::client::{AnswerLine, Target};
use crate::error::{Error, Exit, Result};
use crate::sys::listener::accept_queue::longest_wait;
use crate::sys::machine::clock;
use crate::ui::text;
use crate::wire::control::{Code, ControlCommand, Request, Response};
use crate::wire::status::{Listener, Status, Workers};

/// The reply of the master, the place of the status document in it, and the exit code. The line may
/// be long, so the document is neither copied nor parsed twice.
pub(super) struct StatusReply {
    line: String,
    document: Range<usize>,
    /// The exit code that the document means.
    pub(super) verdict: Exit,
    status: Option<Status>,
}

impl StatusReply {
    /// The document as it came.
    pub(super) fn document(&self) -> &str {
        self.line.get(self.document.clone()).unwrap_or_default()
    }

    /// Parses the document, for what shows more of it than the exit code.
    ///
    /// # Errors
    /// Exit 1: it is no status document.
    pub(super) fn parsed(mut self) -> Result<StatusReply> {
        let mut status: Status = read(self.document())?;
        status.listeners.iter_mut().for_each(find_longest_wait);
        self.status = Some(status);
        Ok(self)
    }

    /// The document, if it was parsed.
    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }
}

/// Asks the master for its status, which has to be there `within` this time.
pub(super) fn fetch(target: &Target, within: Duration) -> Result<StatusReply> {
    ask(target, within, ControlCommand::Status, |line| {
        let found = find_document(&line)?;
        Ok(found.map(|(document, verdict)| StatusReply {
            line,
            document,
            verdict,
            status: None,
        }))
    })
}

/// Asks the master something that it answers at once, `within` this time at the latest. `read`:
/// what a line of the answer means; None: it is not the reply.
pub(super) fn ask<T>(
    target: &Target,
    within: Duration,
    command: ControlCommand,
    read: impl Fn(String) -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Some(clock::now() + within);
    let mut reach = target.reach(deadline).map_err(state_unknown)?;
    let Some(mut control) = reach.control.take() else {
        return Err(Error::new(
            Exit::Failed,
            "status not known",
            target.no_control(),
        ));
    };
    control
        .send(&Request {
            command,
            id: None,
            wait: true,
            key: None,
        })
        .map_err(state_unknown)?;
    while let Some(line) = control.next_text(None).map_err(state_unknown)? {
        if let Some(reply) = read(line)? {
            return Ok(reply);
        }
    }
    let why = reach.unanswered(&control);
    if why.exit != Exit::NotRunning {
        return Err(why);
    }
    let why = "the master has just exited";
    Err(Error::new(Exit::NotRunning, "not running", why))
}

/// The place of the status document in a line, and the exit code. `None`: the line is no reply.
fn find_document(line: &str) -> Result<Option<(Range<usize>, Exit)>> {
    // The fast way: the form that every master writes so far. If the rest does not parse as one
    // document, the line has another form, which is parsed below.
    const BEFORE: &str = "{\"ok\":true,\"status\":";
    let inner = line
        .strip_prefix(BEFORE)
        .and_then(|it| it.strip_suffix('}'));
    if let Some(Ok(health)) = inner.map(serde_json::from_str::<Health<'_>>) {
        return Ok(Some((BEFORE.len()..line.len() - 1, verdict(&health))));
    }
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(default)]
        event: Option<IgnoredAny>,
        ok: bool,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
    }
    if let Ok(Envelope {
        event: None,
        ok: true,
        status: Some(document),
    }) = serde_json::from_str(line)
    {
        let text = document.get();
        let begin = (text.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
        return Ok(Some((begin..begin + text.len(), verdict(&read(text)?))));
    }
    let line = AnswerLine::parse(line.to_owned()).map_err(state_unknown)?;
    let Response::Reply(reply) = line.answer else {
        return Ok(None);
    };
    let Some(failure) = reply.error.filter(|_| !reply.ok) else {
        return Err(Error::new(
            Exit::Failed,
            "status not known",
            "the master's answer has no status",
        ));
    };
    let exit = if failure.code == Code::Permission {
        Exit::Permission
    } else {
        Exit::Failed
    };
    Err(Error::new(
        exit,
        "status not known",
        text::plain(&failure.message),
    ))
}

/// Asks the kernel, where connections wait. It may know nothing of them: of another host's, or
/// another network namespace's.
fn find_longest_wait(listener: &mut Listener) {
    let address = listener.address.strip_prefix("tcp:");
    let address = address.and_then(|address| address.parse().ok());
    if listener.queued > Some(0)
        && let Some(address) = address
    {
        listener.longest_wait = longest_wait(address).ok().flatten();
    }
}

/// Parses the document, or the fields of it that `T` has.
fn read<'a, T: Deserialize<'a>>(document: &'a str) -> Result<T> {
    serde_json::from_str(document).map_err(|error| {
        Error::new(
            Exit::Failed,
            "cannot read the master's answer",
            error.to_string(),
        )
    })
}

/// The error of a master that cannot be asked, as exit 1: the state of the service is not known.
pub(super) fn state_unknown(error: Error) -> Error {
    match error.exit {
        Exit::Usage | Exit::NotRunning | Exit::Permission => error,
        _ => Error {
            exit: Exit::Failed,
            ..error
        },
    }
}

/// The fields of a status that decide the exit code. The others are skipped: the status of a
/// thousand slots is long.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    workers: Workers,
    #[serde(borrow)]
    slots: Vec<SlotHealth<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SlotHealth<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
}

/// Whether the service is healthy. During a rollout it is healthy while every slot is ready. A
/// stopping master is not healthy: a load balancer should use another server.
fn verdict(status: &Health<'_>) -> Exit {
    let ready = status.workers.ready >= status.workers.wanted
        && status.slots.iter().all(|slot| slot.state == "ready");
    exit_of(&status.state, ready)
}

/// The exit code of a service in this state, or of a slot of it: `ready` or not. A pause was asked
/// for.
pub(super) fn exit_of(state: &str, ready: bool) -> Exit {
    match state {
        "paused" => Exit::Done,
        "starting" | "running" | "rolling" if ready => Exit::Done,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_depends_on_state_and_slots() {
        let status = |state: &str, slots: &[&str]| {
            let ready = slots.iter().filter(|slot| **slot == "ready").count();
            let slots: Vec<String> = slots
                .iter()
                .map(|state| format!("{{\"slot\":1,\"state\":\"{state}\",\"pid\":null}}"))
                .collect();
            format!(
                "{{\"version\":\"1\",\"state\":\"{state}\",\"workers\":{{\"wanted\":{},\"ready\":{ready}}},\"slots\":[{}]}}",
                slots.len(),
                slots.join(",")
            )
        };
        for (state, slots, exit) in [
            ("running", &["ready", "ready"][..], Exit::Done),
            ("rolling", &["ready", "ready"], Exit::Done),
            ("running", &[], Exit::Done),
            ("paused", &["empty", "empty"], Exit::Done),
            ("running", &["ready", "backoff"], Exit::Failed),
            ("running", &["ready", "held"], Exit::Failed),
            ("starting", &["starting"], Exit::Failed),
            ("stopping", &["ready"], Exit::Failed),
            ("", &[], Exit::Failed),
        ] {
            let document = status(state, slots);
            let health = read(&document).expect("a status");
            assert_eq!(verdict(&health), exit, "{state} {slots:?}");
        }
    }

    #[test]
    fn the_document_is_found_in_the_reply() {
        for (before, after) in [
            (" {\"ok\":true,\"new\":[1],\"status\":", ",\"id\":7}\r\n"),
            ("{\"ok\":true,\"status\":", "}"),
            ("{\"ok\":true,\"status\":", ",\"id\":{}}"),
        ] {
            let wanted = "{\"state\":\"running\", \"slots\":[{\"state\":\"held\"}], \"more\":{}}";
            let line = format!("{before}{wanted}{after}");
            let (document, verdict) = find_document(&line).expect("sound").expect("a reply");
            assert_eq!((line.get(document), verdict), (Some(wanted), Exit::Failed));
        }
        let progress =
            "{\"event\":\"progress\",\"op\":1,\"done\":1,\"total\":2,\"ok\":true,\"status\":{}}\n";
        assert_eq!(find_document(progress).expect("sound"), None);
        for (line, exit) in [
            ("{\"ok\":true}", Exit::Failed),
            ("{\"ok\":\"maybe\",\"status\":{}}", Exit::Failed),
            ("pardon", Exit::Failed),
            (
                "{\"ok\":false,\"error\":{\"code\":\"permission\",\"message\":\"no\"}}",
                Exit::Permission,
            ),
        ] {
            assert_eq!(find_document(line).expect_err(line).exit, exit, "{line}");
        }
    }
}
