//! `pf-listen --hold`: keeps the listeners open, and runs COMMAND as a child until a signal
//! requests the end. [`Hold`] decides; this loop waits, starts, reaps and passes signals on.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::cli::PROGRAM;
use crate::cmd::hand_on::Environment;
use crate::cmd::program::print_line;
use crate::error::{Error, Exit, Result};
use crate::log::{Format, Log, Sink};
use crate::model::machines::holder::{
    AfterExit, CommandExit, HoldDecider, SignalContext, SignalDecision,
};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::listener::Listener;
use crate::sys::machine::clock;
use crate::sys::process::child::Child;
use crate::sys::process::{exec, session, wait};
use crate::sys::signal;
use crate::sys::signal::forward;
use crate::sys::signal::forward::{ReceivedSignal, Relay};
use crate::wire::listen_env::FIRST_FD;
use crate::wire::names::HOLD_VARIABLE;

/// Variables with the pid of the process that they are meant for.
const PID_VARIABLES: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// A stop signal and the stop of COMMAND that it causes are at most this far apart. A stop that
/// comes later has another cause.
const STOPS_WITHIN: Duration = Duration::from_secs(1);

/// How COMMAND exited. The holder exits alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldExit {
    /// With this exit code.
    Code(u8),
    /// By the signal with this number.
    Signal(i32),
}

impl HoldExit {
    /// Ends this process by the same signal, or returns the exit code to exit with.
    pub(super) fn exit_alike(self) -> ExitCode {
        match self {
            HoldExit::Code(code) => code.into(),
            HoldExit::Signal(number) => {
                forward::disable_core_dumps();
                forward::raise_default(number);
                // The signal does not end pid 1 of a container. Exit as a shell does for a child
                // that a signal ended: 128 and the number.
                u8::try_from(number)
                    .map_or(u8::MAX, |number| number.saturating_add(128))
                    .into()
            }
        }
    }
}

/// The holder: what it starts, and what it knows of the running COMMAND.
struct Holder<'a> {
    command: &'a [OsString],
    /// COMMAND's name in messages.
    name: String,
    environment: Environment,
    listeners: Vec<RawFd>,
    log: Log,
    relay: Relay,
    hold: HoldDecider,
    child: Option<Child>,
    /// When to start COMMAND, if it does not run.
    start_at: Time,
    /// The last signal received that stops a job (TSTP, TTIN, TTOU), and when it came.
    stop: Option<(i32, Time)>,
    /// The last signal that stopped COMMAND, and when that was seen.
    stopped: Option<(i32, Time)>,
}

/// Runs `command` until a signal requests the end, or COMMAND exits with 0. `verbosity` 0 logs
/// restarts.
///
/// # Errors
/// Exit 111: signals cannot be held back, stderr is closed, or the first child cannot be forked.
pub(super) fn hold(
    command: &[OsString],
    listeners: &[Listener],
    environment: Environment,
    verbosity: i8,
) -> Result<HoldExit> {
    let relay =
        Relay::install().map_err(|error| Error::system("cannot hold signals back", error))?;
    let program = command.first().map(Path::new).unwrap_or(Path::new(""));
    let now = clock::now();
    let mut holder = Holder {
        command,
        name: program.display().to_string(),
        environment: with_holder_pid(environment),
        listeners: listeners
            .iter()
            .map(|listener| listener.fd.as_raw_fd())
            .collect(),
        log: Log::new(PROGRAM, Sink::Stderr, Format::Text, verbosity - 1)?,
        relay,
        hold: HoldDecider::new(now.0 ^ (u64::from(std::process::id()) << 32)),
        child: None,
        start_at: now,
        stop: None,
        stopped: None,
    };
    // A failed first start is an error of pf-listen. Later failures are logged and tried again.
    holder
        .start()
        .map_err(|error| Error::system(format!("cannot start {}", holder.name), error))?;
    Ok(holder.run())
}

impl Holder<'_> {
    fn run(&mut self) -> HoldExit {
        let mut poller = Poller::new();
        loop {
            let deadline = self.child.is_none().then_some(self.start_at);
            let signals = [(self.relay.fd(), Interest::READ)];
            if poller.wait(&signals, deadline).is_err() {
                // For example ENOMEM. It does no harm to look at the signals without waiting.
                clock::pause(Duration::from_millis(50));
            }
            let arrived = self.relay.pending();
            for one in &arrived {
                self.handle_signal(*one);
            }
            if arrived.iter().any(|one| one.signal == Some(Signal::Chld))
                && let Some(end) = self.reap_children()
            {
                return end;
            }
            self.stop_with_command();
            if self.child.is_none() && self.hold.is_end_requested() {
                self.log.info("told to exit while COMMAND does not run");
                return HoldExit::Code(Exit::Done.code());
            }
            if self.child.is_none() && self.start_at <= clock::now() {
                self.start_again();
            }
        }
    }

    fn start(&mut self) -> std::io::Result<()> {
        let Some((program, rest)) = self.command.split_first() else {
            return Ok(());
        };
        let holder = std::process::id();
        let environment = &self.environment;
        let execute = || exec::become_program(program, rest, with_child_pid(environment, holder));
        let report = |error: &Error| print_line(PROGRAM, &error.to_string());
        let child = Child::start(&self.relay, &self.listeners, FIRST_FD, execute, report)?;
        self.log
            .info(format_args!("{} is process {}", self.name, child.pid()));
        self.hold.command_started(clock::now());
        self.child = Some(child);
        self.stopped = None;
        Ok(())
    }

    fn start_again(&mut self) {
        if let Err(error) = self.start() {
            let wait = self.hold.start_failed();
            self.start_at = clock::now() + wait;
            self.log.error(format_args!(
                "cannot start {}: {error}; trying again in {}",
                self.name,
                rounded(wait)
            ));
        }
    }

    fn handle_signal(&mut self, arrived: ReceivedSignal) {
        let ReceivedSignal {
            number,
            signal,
            sender,
            pid,
        } = arrived;
        let leader = session::leader();
        let own = i32::try_from(std::process::id());
        let leads_session = own == Ok(leader);
        if matches!(signal, Some(Signal::Tstp | Signal::Ttin | Signal::Ttou)) {
            self.stop = Some((number, clock::now()));
        }
        let context = SignalContext {
            ignored_at_start: self.relay.was_ignored(number),
            leads_session,
            same_group: self.child.as_ref().is_none_or(Child::is_in_our_group),
            sent_by_session_leader: !leads_session && pid != 0 && pid == leader,
            is_own: own == Ok(pid),
        };
        let number = match self.hold.signal_received(signal, sender, context) {
            SignalDecision::Keep => return,
            SignalDecision::PassOn => number,
            SignalDecision::PassOnAs(signal) => signal::number(signal),
        };
        // Without a child the signal was meant for one that is gone.
        if let Some(child) = &self.child
            && let Err(error) = forward::send_to_child(child.pid(), number)
        {
            self.log.error(format_args!(
                "cannot pass {} on to {}: {error}",
                signal_text(number),
                self.name
            ));
        }
    }

    /// After CHLD: reaps COMMAND, reaps adopted orphans, and notes a stop of COMMAND.
    fn reap_children(&mut self) -> Option<HoldExit> {
        if let Some(ended) = self.child.as_mut().and_then(Child::try_reap) {
            let pid = self.child.take().map_or(0, |child| child.pid());
            if let Some(exit) = self.handle_exit(pid, ended) {
                return Some(exit);
            }
        }
        let own = self.child.as_ref().map(Child::pid);
        while wait::reap_orphan(&|pid| Some(pid) == own).is_some() {}
        if let Some(by) = self.child.as_ref().and_then(Child::stopped_by) {
            self.stopped = Some((by, clock::now()));
        }
        None
    }

    fn handle_exit(
        &mut self,
        pid: i32,
        (ended, failed): (wait::WaitStatus, Option<u8>),
    ) -> Option<HoldExit> {
        let (how, text, exit) = match (ended, failed) {
            (_, Some(code)) => {
                let how = CommandExit::NotExecuted(code.into());
                (
                    how,
                    "could not be executed".to_owned(),
                    HoldExit::Code(code),
                )
            }
            (wait::WaitStatus::Exited(code), None) => {
                let exit = HoldExit::Code(u8::try_from(code).unwrap_or(u8::MAX));
                (
                    CommandExit::Exited(code),
                    format!("exited with code {code}"),
                    exit,
                )
            }
            (wait::WaitStatus::Signaled { signal, .. }, None) => {
                let text = format!("was ended by {}", signal_text(signal));
                (
                    CommandExit::Signaled(signal::from_number(signal)),
                    text,
                    HoldExit::Signal(signal),
                )
            }
        };
        let now = clock::now();
        let name = &self.name;
        match self.hold.command_exited(now, how) {
            AfterExit::End => {
                let line = format!("{name} (pid {pid}) {text}");
                if self.hold.is_end_requested() || exit == HoldExit::Code(Exit::Done.code()) {
                    self.log.info(line);
                } else {
                    // COMMAND cannot run with these arguments, and has printed why.
                    self.log.warn(format_args!(
                        "{line} at its first start; it is not started again"
                    ));
                }
                Some(exit)
            }
            AfterExit::StartIn(wait) => {
                self.start_at = now + wait;
                let when = if wait.is_zero() {
                    "at once".to_owned()
                } else {
                    format!("in {}", rounded(wait))
                };
                self.log.warn(format_args!(
                    "{name} (pid {pid}) {text}; started again {when}"
                ));
                None
            }
        }
    }

    /// Stops the holder too, if COMMAND was stopped by a signal that the holder got as well: so a
    /// shell sees that its job is stopped. CONT to the holder is passed on to COMMAND.
    fn stop_with_command(&mut self) {
        // The signal and the stop of COMMAND may be seen in any order.
        let (Some((came, came_at)), Some((by, seen_at))) = (self.stop, self.stopped) else {
            return;
        };
        let apart = came_at.since(seen_at).max(seen_at.since(came_at));
        if came == by && apart <= STOPS_WITHIN {
            (self.stop, self.stopped) = (None, None);
            forward::raise_default(by);
        }
    }
}

/// The environment with the pid of the holder in PF_HOLD.
fn with_holder_pid(mut environment: Environment) -> Environment {
    environment.retain(|(key, _)| key != HOLD_VARIABLE);
    environment.push((HOLD_VARIABLE.into(), std::process::id().to_string().into()));
    environment
}

/// Called in the child: the environment with the child's pid in place of the `holder`'s, as if the
/// holder itself had executed COMMAND.
fn with_child_pid(environment: &Environment, holder: u32) -> Environment {
    let (holder, own) = (holder.to_string(), std::process::id().to_string());
    let mut environment = environment.clone();
    for (key, value) in &mut environment {
        let is_pid_variable = PID_VARIABLES.iter().any(|name| key == name);
        if is_pid_variable && value.as_os_str() == OsStr::new(&holder) {
            *value = own.clone().into();
        }
    }
    environment
}

/// A signal in messages.
fn signal_text(number: i32) -> String {
    signal::from_number(number).map_or_else(
        || format!("signal {number}"),
        |signal| format!("signal {signal}"),
    )
}

fn rounded(wait: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}
