//! `pf-status`: shows what a master and its workers do, as a table, as JSON, or as an exit code.
//!
//! One run: `fetch` asks the master for its status document, and finds the document within the
//! reply. `verdict` derives the exit code from it. Then the table or the document is printed.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::program::{arguments, run};
use crate::client::{AnswerLine, Target};
use crate::error::{Error, Exit, Result};
use crate::ui::{table, text};
use crate::wire::control::{Code, ControlCommand, Request, Response};
use crate::wire::status::Workers;

const PROG: &str = "pf-status";

const EXIT_CODES: &str = "\
Exit codes:
  0  all slots are ready, or the service is paused
  1  degraded, or not known: the master has no control socket or does not answer
  2  wrong usage
  3  not running
  4  no permission
  111  a system call failed: standard output cannot be written, for example";

/// Shows what a master and its workers do
///
/// Prints a summary line, a table with a row for each slot, the listeners with their accept queues,
/// and the last rollout. The exit code tells whether all is well, so this can be a health check.
#[derive(Debug, Parser)]
#[command(name = PROG, version, after_help = EXIT_CODES, max_term_width = 100)]
struct Args {
    /// The master's pid file, or its control socket
    ///
    /// The control socket of a pid file is the same path with .pid replaced by .ctl, else with .ctl
    /// appended.
    #[arg(value_name = "TARGET")]
    target: PathBuf,

    /// Print the status document of the control protocol, as JSON on one line
    ///
    /// It is what the master sent, with the fields that only a newer master knows. See pf-tools(7).
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// Present the content of this file to a master that was started with --control-token
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,

    /// Print nothing; the exit code is the answer
    #[arg(short, long)]
    quiet: bool,
}

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs `pf-status`.
pub fn main() -> ExitCode {
    match arguments::<Args>() {
        Ok(args) => run(PROG, || status(&args)),
        Err(exit) => exit,
    }
}

fn status(args: &Args) -> Result<Exit> {
    let target = Target::new(&args.target).with_token(args.token.as_deref());
    let answer = match target.and_then(|target| fetch(&target)) {
        Ok(answer) => answer,
        // With --quiet, an error is only its exit code.
        Err(error) if args.quiet => return Ok(error.exit),
        Err(error) => return Err(error),
    };
    let document = answer.document();
    let verdict = answer.verdict;
    if args.json {
        print(&[&escaped(document), "\n"])?;
    } else if !args.quiet {
        print(&[&table::render(&read(document)?)])?;
    }
    Ok(verdict)
}

/// The reply of the master, the place of the status document in it, and the exit code. The line may
/// be long, so the document is neither copied nor parsed twice.
struct StatusReply {
    line: String,
    document: Range<usize>,
    verdict: Exit,
}

impl StatusReply {
    fn document(&self) -> &str {
        self.line.get(self.document.clone()).unwrap_or_default()
    }
}

/// Asks the master for its status.
fn fetch(target: &Target) -> Result<StatusReply> {
    let mut reach = target.reach(None).map_err(state_unknown)?;
    let Some(mut control) = reach.control.take() else {
        return Err(Error::new(
            Exit::Failed,
            "status not known",
            target.no_control(),
        ));
    };
    control
        .send(&Request {
            command: ControlCommand::Status,
            id: None,
            wait: true,
            key: None,
        })
        .map_err(state_unknown)?;
    while let Some(line) = control.next_text(None).map_err(state_unknown)? {
        if let Some((document, verdict)) = find_document(&line)? {
            return Ok(StatusReply {
                line,
                document,
                verdict,
            });
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
fn state_unknown(error: Error) -> Error {
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
    match &*status.state {
        "paused" => Exit::Done,
        "starting" | "running" | "rolling" if ready => Exit::Done,
        _ => Exit::Failed,
    }
}

/// The same JSON with the characters that could act on a terminal written as escapes. In JSON these
/// characters occur only in strings, and those below 0x20 not even there (RFC 8259, section 7).
fn escaped(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| byte <= b'~') {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c > '~' && text::is_hostile(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Writes to stdout. A closed pipe is no error: the reader has read what it wanted.
fn print(pieces: &[&str]) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = pieces
        .iter()
        .try_for_each(|piece| out.write_all(piece.as_bytes()));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::system("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        command().debug_assert();
    }

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

    #[test]
    fn escaped_json_means_the_same() {
        let json = "{\"status\": \"\u{9b}31m \u{202e} \u{7f} größer\", \"n\":\t1.50}";
        let harmless = escaped(json);
        assert_eq!(
            harmless,
            "{\"status\": \"\\u009b31m \\u202e \\u007f größer\", \"n\":\t1.50}"
        );
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&harmless), value(json));
    }
}
