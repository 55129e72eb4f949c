//! One run of `pf-ctl`: sends the request, shows progress, prints the reply, chooses the exit code.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::cli::Verb;
use super::output::{PROGRAM, print_data};
use crate::client::{AnswerLine, ControlConnection, Idle, Master, Target};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::ui::progress::{ProgressDisplay, Style};
use crate::ui::text::{escaped_json, plain};
use crate::ui::{history, listeners, plan};
use crate::wire::control::{Code, ControlCommand, Reply, Request, Response};

/// One run of `pf-ctl`: the options that all verbs share, and the progress display.
pub(super) struct Job {
    pub target: Target,
    pub timeout: Option<Duration>,
    pub deadline: Option<Time>,
    pub no_wait: bool,
    pub json: bool,
    pub display: ProgressDisplay,
    /// The operation, once it is known. The error of `--timeout` names it for `wait --op`.
    op: RefCell<Option<String>>,
}

impl Job {
    /// The job of a command line. `--timeout` counts from this call.
    pub(super) fn new(verb: &Verb) -> Result<Self> {
        let (common, no_wait) = verb.options();
        let style = Style::choose(
            common.quiet,
            std::io::stderr().is_terminal(),
            std::env::var_os("TERM").as_deref(),
        );
        let op = if let Verb::Wait(wait) = verb {
            wait.op.clone()
        } else {
            None
        };
        Ok(Job {
            target: Target::new(&common.target).with_token(common.token.as_deref())?,
            timeout: common.timeout.on(),
            deadline: common.timeout.on().map(|timeout| clock::now() + timeout),
            no_wait,
            json: common.json,
            display: ProgressDisplay::new(style, PROGRAM, verb.name()),
            op: RefCell::new(op),
        })
    }

    /// Sends a request and waits for its reply. `None`: the connection ended before the reply.
    pub(super) fn exchange(
        &self,
        connection: &mut ControlConnection,
        command: ControlCommand,
    ) -> Result<Option<(Reply, String)>> {
        self.exchange_with(connection, command, &[])
    }

    /// As [`exchange`](Self::exchange), with descriptors that go along with the request.
    pub(super) fn exchange_with(
        &self,
        connection: &mut ControlConnection,
        command: ControlCommand,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Option<(Reply, String)>> {
        let request = Request {
            command,
            id: None,
            wait: !self.no_wait,
            key: None,
        };
        connection
            .send_with(&request, fds)
            .map_err(|error| self.explain_timeout(error))?;
        loop {
            match connection
                .next_line(self.idle(&|| self.display.tick()))
                .map_err(|error| self.explain_timeout(error))?
            {
                None => return Ok(None),
                Some(AnswerLine {
                    answer: Response::Reply(reply),
                    text,
                }) => return Ok(Some((*reply, text))),
                Some(AnswerLine {
                    answer: Response::Progress(progress),
                    ..
                }) if progress.event == "progress" => {
                    self.op.replace(Some(progress.op.clone()));
                    self.display.step(&progress);
                }
                // An event that only a newer master sends.
                Some(_) => {}
            }
        }
    }

    /// What to do while waiting: `tick`, if there is a display that has to be kept alive.
    pub(super) fn idle<'a>(&self, tick: &'a dyn Fn()) -> Idle<'a> {
        self.display.is_alive().then_some(tick)
    }

    /// Waits until the master has exited, at most until `until`; returns whether it has.
    pub(super) fn wait_gone(&self, master: &Master, until: Option<Time>) -> Result<bool> {
        master.wait_gone_idle(until, self.idle(&|| self.display.tick()))
    }

    /// Prints a reply: warnings, data or a message. Returns the exit code.
    pub(super) fn conclude(&self, (reply, text): (Reply, String)) -> Result<Exit> {
        self.check((&reply, &text))?;
        if !self.json {
            if let Some(op) = reply.op.as_ref().filter(|_| self.no_wait) {
                print_data(&format!("{op}\n"))?;
            }
            if let Some(rollout) = &reply.plan {
                print_data(&plan::text(rollout))?;
            }
            if let Some(all) = &reply.generations {
                print_data(&history::table(all))?;
            }
            if let Some(all) = &reply.listeners {
                print_data(&listeners::table(all))?;
            }
        }
        self.print_done(reply.message.as_deref());
        Ok(Exit::Done)
    }

    /// Prints the JSON and the warnings of a reply. A reply that reports a failure is the error.
    pub(super) fn check(&self, (reply, text): (&Reply, &str)) -> Result<()> {
        if self.json {
            print_data(&format!("{}\n", escaped_json(text)))?;
        }
        for warning in &reply.warnings {
            self.display.warn(warning);
        }
        Self::failure_of(reply)
    }

    /// The failure that a reply reports, as the error.
    pub(super) fn failure_of(reply: &Reply) -> Result<()> {
        match &reply.error {
            None if reply.ok => Ok(()),
            None => Err(malformed_reply("it is neither ok nor an error")),
            Some(failure) => Err(Error::new(
                exit_of(failure.code),
                plain(&failure.message),
                "",
            )),
        }
    }

    /// Prints the result of a verb that has no reply: `json` with `--json`, else `plain`.
    pub(super) fn print_result(&self, json: &serde_json::Value, plain: &str) -> Result<Exit> {
        print_data(&if self.json {
            format!("{json}\n")
        } else {
            plain.to_owned()
        })?;
        Ok(Exit::Done)
    }

    /// Prints the last line on stderr.
    pub(super) fn print_done(&self, message: Option<&str>) {
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            self.display.done(PROGRAM, message);
        }
    }

    /// Whether this reply says that another master is the service now.
    pub(super) fn has_moved(reply: &Reply) -> bool {
        let failure = reply.error.as_ref();
        failure.is_some_and(|failure| failure.code == Code::Moved)
    }

    /// The operation that is waited for, if it is known.
    pub(super) fn operation(&self) -> Option<String> {
        self.op.borrow().clone()
    }

    /// The error of a connection. If `--timeout` has passed, it is the error of `--timeout`
    /// instead.
    pub(super) fn explain_timeout(&self, error: Error) -> Error {
        let passed = self
            .deadline
            .is_some_and(|deadline| deadline <= clock::now());
        if error.exit != Exit::Timeout || !passed {
            return error;
        }
        self.timed_out(&error.what)
    }

    /// The error of `--timeout`: how to wait for the operation, or `why` it took so long if the
    /// operation is not known.
    pub(super) fn timed_out(&self, why: &str) -> Error {
        let after = humantime::format_duration(self.timeout.unwrap_or_default());
        let error = Error::new(Exit::Timeout, format!("not finished after {after}"), "");
        match self.operation() {
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

pub(super) fn malformed_reply(why: &str) -> Error {
    Error::new(Exit::Failed, "cannot read the master's answer", why)
}

fn exit_of(code: Code) -> Exit {
    match code {
        Code::Failed | Code::Aborted | Code::Unknown => Exit::Failed,
        Code::Usage | Code::BadRequest | Code::UnknownCommand => Exit::Usage,
        Code::MasterDied => Exit::NotRunning,
        Code::Permission => Exit::Permission,
        Code::Busy | Code::Refused | Code::Moved => Exit::Refused,
    }
}
