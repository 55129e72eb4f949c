//! One request from its sending to its exit code.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;

use super::cli::Verb;
use super::{PROGRAM, data, signal_fallback};
use crate::client::{Connection, Line, Target, died};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::ui::progress::{Style, Waiting};
use crate::ui::text::plain;
use crate::ui::{listeners, plan};
use crate::wire::control::{Code, ControlCommand, Reply, Request, Response};

/// What one run of `pf-ctl` was told, and what it shows meanwhile.
pub(super) struct Job {
    pub target: Target,
    pub timeout: Option<Duration>,
    pub deadline: Option<Time>,
    pub no_wait: bool,
    pub json: bool,
    pub waiting: Waiting,
    /// The operation, as soon as it is known: who runs out of time wants to wait on.
    op: Cell<Option<u64>>,
}

impl Job {
    /// The job that a command line asks for; its time runs from here.
    pub(super) fn new(verb: &Verb) -> Self {
        let (common, no_wait) = verb.options();
        let style = Style::choose(
            common.quiet,
            std::io::stderr().is_terminal(),
            std::env::var_os("TERM").as_deref(),
        );
        let op = if let Verb::Wait(wait) = verb {
            wait.op
        } else {
            None
        };
        Job {
            target: Target::new(&common.target),
            timeout: common.timeout.on(),
            deadline: common.timeout.on().map(|timeout| clock::now() + timeout),
            no_wait,
            json: common.json,
            waiting: Waiting::new(style, PROGRAM, verb.name()),
            op: Cell::new(op),
        }
    }

    /// Asks the master, or sends it a signal where it cannot be asked.
    pub(super) fn ask(&self, command: ControlCommand) -> Result<Exit> {
        let reach = self
            .target
            .reach(self.deadline)
            .map_err(|error| self.late(error))?;
        let Some(mut connection) = reach.control else {
            return signal_fallback::signal(self, reach.master.as_ref(), &command);
        };
        let answers: fn(&Reply) -> bool = match command {
            ControlCommand::Listeners => |reply| reply.listeners.is_some(),
            ControlCommand::Reload { dry_run: true, .. }
            | ControlCommand::Upgrade { dry_run: true, .. } => |reply| reply.plan.is_some(),
            _ => |_| true,
        };
        let leaves = matches!(
            command,
            ControlCommand::Upgrade {
                dry_run: false,
                fork: true,
                manual: false
            }
        );
        let (reply, text) = self.exchange(&mut connection, command)?.ok_or_else(died)?;
        if let Some(master) = reach.master.filter(|_| leaves && reply.ok && !self.no_wait) {
            // Its last word; whoever asks the new one after us is to find it alone.
            master.wait_gone(self.deadline)?;
        }
        if reply.ok && !answers(&reply) {
            return Err(senseless("what was asked for is not in it"));
        }
        self.conclude((reply, text))
    }

    /// Sends a request and waits for its reply; `None` when the connection ended before it.
    pub(super) fn exchange(
        &self,
        connection: &mut Connection,
        command: ControlCommand,
    ) -> Result<Option<(Reply, String)>> {
        let request = Request {
            command,
            id: None,
            wait: !self.no_wait,
            key: None,
        };
        connection
            .send(&request)
            .map_err(|error| self.late(error))?;
        loop {
            match connection.next_line().map_err(|error| self.late(error))? {
                None => return Ok(None),
                Some(Line {
                    answer: Response::Reply(reply),
                    text,
                }) => return Ok(Some((*reply, text))),
                Some(Line {
                    answer: Response::Progress(progress),
                    ..
                }) if progress.event == "progress" => {
                    self.op.set(Some(progress.op));
                    self.waiting.step(&progress);
                }
                // An event of a newer master.
                Some(_) => {}
            }
        }
    }

    /// What a reply means: warnings, data or a message, and the exit code.
    pub(super) fn conclude(&self, (reply, text): (Reply, String)) -> Result<Exit> {
        self.check((&reply, &text))?;
        if !self.json {
            if let Some(op) = reply.op.filter(|_| self.no_wait) {
                data(&format!("{op}\n"))?;
            }
            if let Some(rollout) = &reply.plan {
                data(&plan::text(rollout))?;
            }
            if let Some(all) = &reply.listeners {
                data(&listeners::table(all))?;
            }
        }
        self.done(reply.message.as_deref());
        Ok(Exit::Done)
    }

    /// Shows what every reply may carry, and turns one that says no into the error that it is.
    pub(super) fn check(&self, (reply, text): (&Reply, &str)) -> Result<()> {
        if self.json {
            data(&format!("{text}\n"))?;
        }
        for warning in &reply.warnings {
            self.waiting.warn(warning);
        }
        match &reply.error {
            None if reply.ok => Ok(()),
            None => Err(senseless("neither ok nor an error")),
            Some(failure) => Err(Error::new(
                exit_of(failure.code),
                plain(&failure.message),
                "",
            )),
        }
    }

    /// The end of a verb that has no reply of its own: `value` is its data, told as JSON where that was asked for.
    pub(super) fn settle(&self, json: &serde_json::Value, plain: &str) -> Result<Exit> {
        data(&if self.json {
            format!("{json}\n")
        } else {
            plain.to_owned()
        })?;
        Ok(Exit::Done)
    }

    /// The last line on stderr.
    pub(super) fn done(&self, message: Option<&str>) {
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            self.waiting.done(PROGRAM, message);
        }
    }

    /// An error of the connection, told as running out of `--timeout` if it is that.
    pub(super) fn late(&self, error: Error) -> Error {
        let passed = self
            .deadline
            .is_some_and(|deadline| deadline <= clock::now());
        if error.exit != Exit::Timeout || !passed {
            return error;
        }
        self.too_late(&error.what)
    }

    /// `--timeout` has passed: how to wait on, or else `why` it has.
    pub(super) fn too_late(&self, why: &str) -> Error {
        let after = humantime::format_duration(self.timeout.unwrap_or_default());
        let error = Error::new(Exit::Timeout, format!("not finished after {after}"), "");
        match self.op.get() {
            Some(op) => {
                let target = self.target.path().display();
                error.hint(format!(
                    "operation {op} goes on: {PROGRAM} wait {target} --op {op}"
                ))
            }
            None => Error {
                why: why.to_owned(),
                ..error
            },
        }
    }
}

fn senseless(why: &str) -> Error {
    Error::new(Exit::Failed, "the master's answer makes no sense", why)
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::Failed | Code::Aborted | Code::Unknown => Exit::Failed,
        Code::Usage | Code::BadRequest | Code::UnknownCommand => Exit::Usage,
        Code::Permission => Exit::Permission,
        Code::Busy | Code::Refused => Exit::Refused,
    }
}
