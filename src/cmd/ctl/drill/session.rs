//! The conversation with the master while load is made: one wait for both, in one thread.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::load::{Key, Load};
use super::steps::Step;
use crate::client::{ControlConnection, POLL_INTERVAL, Reach, Received};
use crate::cmd::ctl::job::{Job, malformed_reply};
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, PollSet, Poller};
use crate::sys::machine::clock;
use crate::sys::signal;
use crate::sys::signal::shutdown::signal_pipe;
use crate::wire::control::{Code, ControlCommand, Reply, Request, Response};
use crate::wire::status::Status;

/// How often the status is looked at while a step settles.
const LOOK: Duration = Duration::from_millis(50);

/// How often a progress bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// How long the next master may take to appear.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);

/// Why the drill does not go on.
#[derive(Debug)]
pub(super) enum Stopped {
    /// A signal asked for it.
    By(Signal),
    /// `--timeout` has passed.
    Timeout,
    /// A request failed.
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Stopped::Failed(error)
    }
}

/// What an operation has come to.
#[derive(Debug, PartialEq)]
pub(super) struct Ended {
    /// Also of one that failed.
    pub op: Option<String>,
    pub warnings: Vec<String>,
    pub failure: Option<Error>,
}

/// What a dry run says of a step.
#[derive(Debug, PartialEq)]
pub(super) enum Rehearsed {
    /// It can be taken.
    Possible,
    /// It is refused here, and that is no fault of the service.
    LeftOut(String),
    /// It would fail.
    Failed(String),
}

/// The conversation.
pub(super) struct Session<'a> {
    job: &'a Job,
    pub load: Load,
    connection: ControlConnection,
    signals: Vec<(Signal, OwnedFd)>,
    poller: Poller,
    /// When the clients were looked at last.
    looked: Time,
    /// The operation under way.
    pub op: Option<String>,
}

impl<'a> Session<'a> {
    /// Takes over a connection.
    pub(super) fn new(job: &'a Job, connection: ControlConnection, load: Load) -> Self {
        Session {
            job,
            load,
            connection,
            signals: Vec::new(),
            poller: Poller::new(),
            looked: clock::now(),
            op: None,
        }
    }

    /// From now on a signal ends the drill in order. Before that, while the terminal is waited for,
    /// it ends the program.
    pub(super) fn catch_signals(&mut self) -> Result<()> {
        for signal in [Signal::Int, Signal::Term] {
            let pipe = signal_pipe(signal)
                .map_err(|error| Error::system("cannot install signal handlers", error))?;
            self.signals.push((signal, pipe));
        }
        Ok(())
    }

    /// One turn: waits until something happens, `until` at most, and lets the clients work.
    /// `awaits`: an answer of the master is waited for as well.
    fn turn(&mut self, until: Option<Time>, awaits: bool) -> Result<(), Stopped> {
        // To connect to the master and to send may block.
        self.load.stood_still(clock::now().since(self.looked));
        let mut set = PollSet::new();
        if awaits {
            set.add(Key::Control, self.connection.fd(), Interest::READ);
        }
        for (signal, pipe) in &self.signals {
            set.add(
                Key::Signal(signal::number(*signal)),
                pipe.as_fd(),
                Interest::READ,
            );
        }
        self.load.add_to(&mut set);
        let tick = self.job.display.is_alive().then(|| clock::now() + TICK);
        let answer = self.connection.answer_by().filter(|_| awaits);
        let deadlines = [until, self.job.deadline, self.load.deadline(), answer, tick];
        let deadline = deadlines.into_iter().flatten().min();
        let ready = set
            .wait(&mut self.poller, deadline)
            .map_err(|error| Error::system("cannot wait", error))?;
        drop(set);
        let now = clock::now();
        self.load.turn(now, &ready);
        self.looked = clock::now();
        self.job.display.tick();
        for (signal, _) in &self.signals {
            if ready.is_ready(Key::Signal(signal::number(*signal))) {
                return Err(Stopped::By(*signal));
            }
        }
        if self.job.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Stopped::Timeout);
        }
        Ok(())
    }

    /// Makes a request, and load meanwhile. `None`: the connection has ended before the reply.
    fn ask(&mut self, command: ControlCommand) -> Result<Option<Reply>, Stopped> {
        self.connection.send(&Request {
            command,
            id: None,
            wait: true,
            key: None,
        })?;
        loop {
            match self.connection.receive()? {
                Received::End => return Ok(None),
                Received::Nothing => self.turn(None, true)?,
                Received::Line(line) => match line.answer {
                    Response::Reply(reply) => return Ok(Some(*reply)),
                    Response::Progress(progress) => {
                        self.op = Some(progress.op.clone());
                        self.job.display.step(&progress);
                    }
                },
            }
        }
    }

    /// Has the master do something, and waits for its end, also if that is with the next master.
    /// Where that fails without a reply, `op` is still the operation.
    pub(super) fn operation(&mut self, command: ControlCommand) -> Result<Ended, Stopped> {
        self.op = None;
        let mut reply = self.ask(command)?;
        let is_elsewhere = |reply: &Option<Reply>| reply.as_ref().is_none_or(Job::has_moved);
        if is_elsewhere(&reply) {
            self.reconnect()?;
            if let Some(op) = self.op.clone() {
                let wait = ControlCommand::Wait {
                    ready: false,
                    op: Some(op),
                };
                reply = self.ask(wait)?;
            }
        }
        let reply = reply.ok_or_else(died)?;
        Ok(ended(reply, self.op.take()))
    }

    /// Asks whether a step can be taken.
    pub(super) fn rehearsed(&mut self, step: &Step) -> Result<Rehearsed, Stopped> {
        match step.rehearsal() {
            Some(command) => Ok(rehearsed(step, &self.ask(command)?.ok_or_else(died)?)),
            None => Ok(Rehearsed::Possible),
        }
    }

    /// The first status document, of a master that may ask for a token.
    pub(super) fn first_status(&mut self, reach: &Reach) -> Result<Status, Stopped> {
        let Some(reply) = self.ask(ControlCommand::Status)? else {
            return Err(reach.unanswered(&self.connection).into());
        };
        Job::failure_of(&reply)?;
        let status = reply
            .status
            .ok_or_else(|| malformed_reply("it has no status"))?;
        Ok(*status)
    }

    /// The status document, by which master ever is the service.
    pub(super) fn status(&mut self) -> Result<Status, Stopped> {
        let status = |reply: Option<Reply>| reply.and_then(|reply| reply.status);
        let asked = self.ask(ControlCommand::Status);
        let found = match asked {
            Ok(reply) => status(reply),
            Err(Stopped::Failed(_)) => None,
            Err(stopped) => return Err(stopped),
        };
        let found = match found {
            Some(found) => found,
            None => {
                self.reconnect()?;
                let reply = self.ask(ControlCommand::Status)?;
                status(reply).ok_or_else(|| malformed_reply("it has no status"))?
            }
        };
        Ok(*found)
    }

    /// Connects to the master that the target names now.
    pub(super) fn reconnect(&mut self) -> Result<(), Stopped> {
        let until = clock::now() + APPEARS_WITHIN;
        loop {
            match self.job.target.reach(self.job.deadline) {
                Ok(reach) => {
                    if let Some(connection) = reach.control {
                        self.connection = connection;
                        return Ok(());
                    }
                }
                Err(error) if error.exit == Exit::NotRunning => {}
                Err(error) => return Err(error.into()),
            }
            if until <= clock::now() {
                return Err(died().into());
            }
            self.turn(Some(clock::now() + POLL_INTERVAL), false)?;
        }
    }

    /// Makes load until the status is as wanted, `within` at most; the last status, and whether it
    /// is.
    pub(super) fn until(
        &mut self,
        within: Duration,
        is_wanted: impl Fn(&Status) -> bool,
    ) -> Result<(Status, bool), Stopped> {
        let by = clock::now() + within;
        loop {
            let status = self.status()?;
            if is_wanted(&status) {
                return Ok((status, true));
            }
            if by <= clock::now() {
                return Ok((status, false));
            }
            self.make_load(clock::now() + LOOK, |_| false)?;
        }
    }

    /// Makes load until `enough`, `until` at most.
    pub(super) fn make_load(
        &mut self,
        until: Time,
        enough: impl Fn(&Load) -> bool,
    ) -> Result<(), Stopped> {
        while !enough(&self.load) && clock::now() < until {
            self.turn(Some(until), false)?;
        }
        Ok(())
    }

    /// Makes no new requests, and waits for the answers to those that are under way.
    pub(super) fn finish_requests(&mut self) -> Result<(), Stopped> {
        self.load.goes_on = false;
        while !self.load.is_quiet() {
            self.turn(None, false)?;
        }
        Ok(())
    }
}

/// What this reply says of the operation, which has ended, well or not.
fn ended(reply: Reply, op: Option<String>) -> Ended {
    Ended {
        failure: Job::failure_of(&reply).err(),
        op: reply.op.or(op),
        warnings: reply.warnings,
    }
}

/// What the reply to a dry run says of this step. Only an upgrade by fork may be refused by a
/// service that is well: it depends on what is above the master.
fn rehearsed(step: &Step, reply: &Reply) -> Rehearsed {
    let Err(error) = Job::failure_of(reply) else {
        return Rehearsed::Possible;
    };
    let code = reply.error.as_ref().map(|failure| failure.code);
    if *step == Step::UpgradeFork && code == Some(Code::Refused) {
        return Rehearsed::LeftOut(error.to_string());
    }
    Rehearsed::Failed(format!("the dry run failed: {error}"))
}

/// Sends a request on a connection of its own, and does not wait for what it begins: for a drill
/// that ends early.
pub(super) fn tell(job: &Job, command: ControlCommand) -> Result<()> {
    let within = Some(clock::now() + APPEARS_WITHIN);
    let mut connection = job.target.reach(within)?.control.ok_or_else(died)?;
    connection.send(&Request {
        command,
        id: None,
        wait: false,
        key: None,
    })?;
    while let Some(line) = connection.next_line(None)? {
        if let Response::Reply(reply) = line.answer {
            return Job::failure_of(&reply);
        }
    }
    Err(died())
}

fn died() -> Error {
    Error::new(Exit::NotRunning, "the master died", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::Failure;

    fn failed(code: Code) -> Reply {
        Reply {
            error: Some(Failure {
                code,
                message: "no".into(),
            }),
            ..Reply::default()
        }
    }

    #[test]
    fn only_a_refused_upgrade_by_fork_is_left_out() {
        let left_out = rehearsed(&Step::UpgradeFork, &failed(Code::Refused));
        assert_eq!(left_out, Rehearsed::LeftOut("no".into()));
        for (step, code) in [
            (Step::UpgradeFork, Code::Failed),
            (Step::UpgradeFork, Code::Busy),
            (Step::UpgradeFork, Code::Permission),
            (Step::Upgrade, Code::Refused),
            (Step::Upgrade, Code::Failed),
        ] {
            let found = rehearsed(&step, &failed(code));
            let why = "the dry run failed: no".to_owned();
            assert_eq!(found, Rehearsed::Failed(why), "{step:?} {code:?}");
        }
        let done = Reply {
            ok: true,
            ..Reply::default()
        };
        assert_eq!(rehearsed(&Step::Upgrade, &done), Rehearsed::Possible);
    }

    #[test]
    fn an_operation_that_failed_has_its_id() {
        let told = ended(failed(Code::Failed), Some("7".into()));
        assert_eq!(told.op.as_deref(), Some("7"));
        assert_eq!(told.failure.map(|it| it.exit), Some(Exit::Failed));
        let named = Reply {
            op: Some("8".into()),
            ..failed(Code::Aborted)
        };
        assert_eq!(ended(named, None).op.as_deref(), Some("8"));
    }
}
