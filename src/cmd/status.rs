//! `pf-status`: what a master and its workers are doing, as a table, as JSON, or as an exit code alone.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{arguments, run};
use crate::client::Target;
use crate::error::{Error, Exit, Result};
use crate::ui::{table, text};
use crate::wire::proto::{Answer, Code, Command, Reply, Request};
use crate::wire::status::Status;

const PROG: &str = "pf-status";

const EXIT_CODES: &str = "\
Exit codes:
  0  all slots are ready, or the service is paused as asked for
  1  degraded, or not known: the master has no control socket or does not answer
  2  wrong usage
  3  not running
  4  no permission";

/// Shows what a master and its workers are doing
///
/// Prints a summary line, a table with a row for each slot, the listeners with their accept queues, and the last rollout. The exit
/// code alone answers whether all is well, so that this can be used as a health check.
#[derive(Debug, Parser)]
#[command(name = PROG, version, after_help = EXIT_CODES, max_term_width = 100)]
struct Args {
    /// The master's pid file, or its control socket
    ///
    /// The control socket of a pid file is the same path with .pid replaced by .ctl, else with .ctl appended.
    #[arg(value_name = "TARGET")]
    target: PathBuf,

    /// Print the status document of the control protocol, as JSON on one line
    ///
    /// It is what the master sent: fields that a newer master adds are kept. See pf-tools(7).
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// Print nothing: only the exit code tells
    #[arg(short, long)]
    quiet: bool,
}

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    match arguments::<Args>() {
        Ok(args) => run(PROG, || status(&args)),
        Err(exit) => exit,
    }
}

fn status(args: &Args) -> Result<Exit> {
    let (status, document) = match fetch(&Target::new(&args.target)) {
        Ok(told) => told,
        // Quiet, being no answer is an answer as well.
        Err(error) if args.quiet => return Ok(error.exit),
        Err(error) => return Err(error),
    };
    if args.json {
        print(&(harmless(&document) + "\n"))?;
    } else if !args.quiet {
        print(&table::render(&status))?;
    }
    Ok(verdict(&status))
}

/// The status, and the document that it was read from as the master sent it.
fn fetch(target: &Target) -> Result<(Status, String)> {
    let control = target.reach(None).map_err(unknown)?.control;
    let Some(mut control) = control else {
        return Err(Error::new(
            Exit::Failed,
            "status not known",
            target.no_control(),
        ));
    };
    control
        .send(&Request {
            command: Command::Status,
            id: None,
            wait: true,
            key: None,
        })
        .map_err(unknown)?;
    while let Some(line) = control.next_line().map_err(unknown)? {
        if let Answer::Reply(reply) = line.answer {
            return open(*reply, &line.text);
        }
    }
    Err(Error::new(
        Exit::NotRunning,
        "not running",
        "the master has just left",
    ))
}

/// Takes the status out of a reply.
fn open(reply: Reply, line: &str) -> Result<(Status, String)> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        status: Option<&'a RawValue>,
    }
    if let Some(failure) = reply.error.filter(|_| !reply.ok) {
        let exit = if failure.code == Code::Permission {
            Exit::Permission
        } else {
            Exit::Failed
        };
        return Err(Error::new(
            exit,
            "status not known",
            text::plain(&failure.message),
        ));
    }
    let document = serde_json::from_str(line)
        .ok()
        .and_then(|Envelope { status }| status);
    match (reply.status, document) {
        (Some(status), Some(document)) => Ok((*status, document.get().to_owned())),
        _ => Err(Error::new(
            Exit::Failed,
            "status not known",
            "the master's answer has none",
        )),
    }
}

/// A master that cannot be asked, whatever the reason, is one exit code: its state is not known.
fn unknown(error: Error) -> Error {
    match error.exit {
        Exit::Usage | Exit::NotRunning | Exit::Permission => error,
        _ => Error {
            exit: Exit::Failed,
            ..error
        },
    }
}

/// Whether all is as asked for. A rollout under way is no reason to complain as long as every slot is ready; a master that
/// stops is one, since whoever asks should look elsewhere.
fn verdict(status: &Status) -> Exit {
    let ready = status.workers.ready >= status.workers.wanted
        && status.slots.iter().all(|slot| slot.state == "ready");
    match status.state.as_str() {
        "paused" => Exit::Done,
        "starting" | "running" | "rolling" if ready => Exit::Done,
        _ => Exit::Failed,
    }
}

/// The same JSON with the characters that could act on a terminal written as escapes. JSON has none of these but within its
/// strings; those below 0x20 it does not have at all.
fn harmless(json: &str) -> String {
    if json.bytes().all(|byte| byte <= b'~') {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c > '~' && text::is_hostile(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes to stdout. A reader that has left has seen enough.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Failed, "cannot write to stdout", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::{Slot, Workers};

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_verdict_is_about_slots() {
        let status = |state: &str, slots: &[&str]| Status {
            state: state.into(),
            workers: Workers {
                wanted: slots.len(),
                ready: slots.iter().filter(|slot| **slot == "ready").count(),
                ..Workers::default()
            },
            slots: slots
                .iter()
                .map(|state| Slot {
                    state: (*state).into(),
                    ..Slot::default()
                })
                .collect(),
            ..Status::default()
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
            assert_eq!(verdict(&status(state, slots)), exit, "{state} {slots:?}");
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let json = "{\"status\": \"\u{9b}31m \u{202e} \u{7f} größer\", \"n\":\t1.50}";
        let escaped = harmless(json);
        assert_eq!(
            escaped,
            "{\"status\": \"\\u009b31m \\u202e \\u007f größer\", \"n\":\t1.50}"
        );
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&escaped), value(json));
    }
}
