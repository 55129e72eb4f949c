//! `pf-listen --hold`: stays, and runs COMMAND as a child for as long as nobody asks for the end.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{Environment, PROG};
use crate::cmd::say;
use crate::error::{Error, Exit, Result};
use crate::log::{Format, Log, Sink};
use crate::model::holder::{AfterExit, CommandExit, HoldDecider, SignalContext, SignalDecision};
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

/// Tells COMMAND who holds it.
const HOLDER: &str = "PF_HOLD";

/// Variables that name the process that they are meant for.
const MEANT_FOR: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// A stop signal and the stop that it causes are no further apart than this; who stops later does so for another reason.
const STOPS_WITHIN: Duration = Duration::from_secs(1);

/// How the holder ends: as COMMAND did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With this status.
    Code(u8),
    /// By the signal of this number.
    Signal(i32),
}

impl End {
    /// Ends this process in that way; what only an exit code can tell is returned.
    pub(super) fn repeat(self) -> ExitCode {
        match self {
            End::Code(code) => code.into(),
            End::Signal(number) => {
                forward::disable_core_dumps();
                forward::raise_default(number);
                // Pid 1 of a container is still there: what a shell says of such an end.
                u8::try_from(number)
                    .map_or(u8::MAX, |number| number.saturating_add(128))
                    .into()
            }
        }
    }
}

/// What is started, and what holds it.
struct Holder<'a> {
    command: &'a [OsString],
    /// What COMMAND is called in messages.
    name: String,
    environment: Environment,
    listeners: Vec<RawFd>,
    log: Log,
    relay: Relay,
    hold: HoldDecider,
    child: Option<Child>,
    /// When to start COMMAND, while there is none.
    start_at: Time,
    /// The last signal that may stop a job, and when it came.
    stop: Option<(i32, Time)>,
    /// The last signal that has stopped COMMAND, and when that was seen.
    stopped: Option<(i32, Time)>,
}

/// Runs `command` until the end is asked for. `verbosity` is that of its log: 0 tells of restarts.
///
/// # Errors
/// Exit 111: signals cannot be held back, stderr is closed, or the first child cannot be forked.
pub(super) fn hold(
    command: &[OsString],
    listeners: &[Listener],
    environment: Environment,
    verbosity: i8,
) -> Result<End> {
    let relay =
        Relay::install().map_err(|error| Error::system("cannot hold signals back", error))?;
    let program = command.first().map(Path::new).unwrap_or(Path::new(""));
    let now = clock::now();
    let mut holder = Holder {
        command,
        name: program.display().to_string(),
        environment: held(environment),
        listeners: listeners
            .iter()
            .map(|listener| listener.fd.as_raw_fd())
            .collect(),
        log: Log::new(PROG, Sink::Stderr, Format::Text, verbosity - 1)?,
        relay,
        hold: HoldDecider::new(now.0 ^ (u64::from(std::process::id()) << 32)),
        child: None,
        start_at: now,
        stop: None,
        stopped: None,
    };
    // Whoever waits for the first start is told why there is none.
    holder
        .start()
        .map_err(|error| Error::system(format!("cannot start {}", holder.name), error))?;
    Ok(holder.until_the_end())
}

impl Holder<'_> {
    fn until_the_end(&mut self) -> End {
        let mut poller = Poller::new();
        loop {
            let deadline = self.child.is_none().then_some(self.start_at);
            let signals = [(self.relay.fd(), Interest::READ)];
            if poller.wait(&signals, deadline).is_err() {
                // ENOMEM, say: to look is never wrong.
                clock::pause(Duration::from_millis(50));
            }
            let arrived = self.relay.pending();
            for one in &arrived {
                self.signalled(*one);
            }
            if arrived.iter().any(|one| one.signal == Some(Signal::Chld))
                && let Some(end) = self.look_at_children()
            {
                return end;
            }
            self.stop_along();
            if self.child.is_none() && self.hold.is_end_requested() {
                self.log.info("told to end while nothing runs");
                return End::Code(Exit::Done.code());
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
        let become_next = || exec::become_program(program, rest, own(environment, holder));
        let tell = |error: &Error| say(PROG, &error.to_string());
        let child = Child::start(&self.relay, &self.listeners, FIRST_FD, become_next, tell)?;
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

    fn signalled(&mut self, arrived: ReceivedSignal) {
        let ReceivedSignal {
            number,
            signal,
            sender,
            pid,
        } = arrived;
        let leader = session::leader();
        let leads_session = i32::try_from(std::process::id()) == Ok(leader);
        if matches!(signal, Some(Signal::Tstp | Signal::Ttin | Signal::Ttou)) {
            self.stop = Some((number, clock::now()));
        }
        let context = SignalContext {
            ignored_at_start: self.relay.was_ignored(number),
            leads_session,
            same_group: self.child.as_ref().is_none_or(Child::is_in_our_group),
            sent_by_session_leader: !leads_session && pid != 0 && pid == leader,
        };
        let number = match self.hold.signal_received(signal, sender, context) {
            SignalDecision::Keep => return,
            SignalDecision::PassOn => number,
            SignalDecision::PassOnAs(signal) => signal::number(signal),
        };
        // Without a child it was about one that is gone.
        if let Some(child) = &self.child
            && let Err(error) = forward::send_to_child(child.pid(), number)
        {
            self.log.error(format_args!(
                "cannot pass {} on to {}: {error}",
                named(number),
                self.name
            ));
        }
    }

    /// COMMAND has ended or was stopped, or somebody else's child has come to us.
    fn look_at_children(&mut self) -> Option<End> {
        if let Some(ended) = self.child.as_mut().and_then(Child::try_reap) {
            let pid = self.child.take().map_or(0, |child| child.pid());
            if let Some(end) = self.bury(pid, ended) {
                return Some(end);
            }
        }
        let own = self.child.as_ref().map(Child::pid);
        while wait::reap_orphan(&|pid| Some(pid) == own).is_some() {}
        if let Some(by) = self.child.as_ref().and_then(Child::stopped_by) {
            self.stopped = Some((by, clock::now()));
        }
        None
    }

    fn bury(&mut self, pid: i32, (ended, failed): (wait::WaitStatus, Option<u8>)) -> Option<End> {
        let (how, told, end) = match (ended, failed) {
            (_, Some(code)) => {
                let how = CommandExit::NotExecuted(code.into());
                (how, "could not be executed".to_owned(), End::Code(code))
            }
            (wait::WaitStatus::Exited(code), None) => {
                let end = End::Code(u8::try_from(code).unwrap_or(u8::MAX));
                (
                    CommandExit::Exited(code),
                    format!("exited with code {code}"),
                    end,
                )
            }
            (wait::WaitStatus::Signaled { signal, .. }, None) => {
                let told = format!("was ended by {}", named(signal));
                (
                    CommandExit::Signaled(signal::from_number(signal)),
                    told,
                    End::Signal(signal),
                )
            }
        };
        let now = clock::now();
        let (name, told) = (&self.name, format_args!("{told}"));
        match self.hold.command_exited(now, how) {
            AfterExit::End => {
                let line = format!("{name} (pid {pid}) {told}");
                if self.hold.is_end_requested() || end == End::Code(Exit::Done.code()) {
                    self.log.info(line);
                } else {
                    // It cannot run as it was called, and has said why.
                    self.log.warn(format_args!(
                        "{line} at its first start; it is not started again"
                    ));
                }
                Some(end)
            }
            AfterExit::StartIn(wait) => {
                self.start_at = now + wait;
                let when = if wait.is_zero() {
                    "at once".to_owned()
                } else {
                    format!("in {}", rounded(wait))
                };
                self.log.warn(format_args!(
                    "{name} (pid {pid}) {told}; started again {when}"
                ));
                None
            }
        }
    }

    /// What has stopped COMMAND and was meant for both stops us too: a shell that watches us sees its job stopped. Whoever continues us is heard by
    /// the signal that it sends, which is passed on.
    fn stop_along(&mut self) {
        // The kernel tells the two in any order.
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

/// The environment of whoever is held by this process.
fn held(mut environment: Environment) -> Environment {
    environment.retain(|(key, _)| key != HOLDER);
    environment.push((HOLDER.into(), std::process::id().to_string().into()));
    environment
}

/// The same in the child, whose pid an exec would have left to be the `holder`'s.
fn own(environment: &Environment, holder: u32) -> Environment {
    let (holder, own) = (holder.to_string(), std::process::id().to_string());
    let mut environment = environment.clone();
    for (key, value) in &mut environment {
        if MEANT_FOR.iter().any(|name| key == name) && value.as_os_str() == OsStr::new(&holder) {
            *value = own.clone().into();
        }
    }
    environment
}

/// A signal for people.
fn named(number: i32) -> String {
    signal::from_number(number).map_or_else(
        || format!("signal {number}"),
        |signal| format!("signal {signal}"),
    )
}

fn rounded(wait: Duration) -> humantime::FormattedDuration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis))
}
