//! The whole vocabulary between model and driver: what can happen, and what is to be done.
//!
//! Every action is *tell*, never *ask*: where performing one yields a fact, the fact comes back as an event in the same turn.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fork::{PeerAction, PeerEvent};
use super::policy::Policy;
use super::signal::{Sender, Signal};

/// The model's own name for a process: a counter, never used twice. Pids are labels, for display only.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WorkerId(pub u64);

/// A generation's number, counted from 1 and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// An operation's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId(pub u64);

/// Whoever asked for something and waits for an answer; the driver's own number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a worker's leader ended, as the system told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it (None: one that has no name here), leaving a core or not.
    Signaled(Option<Signal>, bool),
}

/// What a worker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saying {
    /// `READY=1`, or einhorn's ack.
    Ready,
    /// A beat: the inode time, the counter, or `WATCHDOG=1`.
    Beat,
    /// A newline on its ready fd.
    Newline,
    /// Its ready fd was closed without a newline.
    Closed,
    /// `STOPPING=1`.
    Stopping,
    /// `WATCHDOG=trigger`: as if it had missed its heartbeat.
    Trigger,
    /// `WATCHDOG_USEC=`: its heartbeat's timeout from now on.
    Watchdog(Duration),
    /// `EXTEND_TIMEOUT_USEC=`: it needs so long from now, whatever it is doing.
    Extend(Duration),
}

/// What a client of the control socket asks the supervisor for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Roll to a new generation.
    Reload {
        /// The worker command is another one: what was known of how its workers tell that they are ready is forgotten.
        renewed: bool,
    },
    /// Put another image of the master in place of this one, then roll to a new generation.
    Upgrade,
    /// Start another master beside this one; `manual`: both serve until one is told to quit.
    Fork {
        /// Nobody yields anything by itself.
        manual: bool,
    },
    /// End a running rollout, or roll to the generation before.
    Rollback,
    /// Set the number of slots.
    Scale(Scale),
    /// Stop the service, this hard.
    Stop(super::policy::StopSeverity),
    /// Stop the workers, keep the master.
    Pause,
    /// Bring them back.
    Resume,
    /// Replace the worker of one slot.
    RestartWorker(u32),
    /// Reopen the logs, pass USR1 on.
    Reopen,
    /// Deliver a signal to all workers, or to the one that holds this slot.
    Signal(Signal, Option<u32>),
    /// End the drain of this generation now.
    Retire(Generation),
}

/// A number of slots: absolute, or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// So many.
    To(usize),
    /// So many more, or fewer (never below 0).
    By(i64),
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The driver stands ready: the first rollout may begin.
    Start,
    /// The worker's process exists. The pid is a label.
    Forked(WorkerId, i32),
    /// There is no process: fork, a pipe or a descriptor failed, for this reason.
    SpawnFailed(WorkerId, String),
    /// Its exec succeeded.
    Executed(WorkerId),
    /// Its exec failed, for this reason; its process ends by itself, and [`Event::Exited`] follows.
    ExecFailed(WorkerId, String),
    /// It said something.
    Said(WorkerId, Saying),
    /// Its leader has ended. `rest`: its group still has members.
    Exited {
        /// Who.
        worker: WorkerId,
        /// How.
        ended: Ended,
        /// Whether its group still has members.
        rest: bool,
    },
    /// The rest of its group is gone, too.
    Emptied(WorkerId),
    /// Its group holds no listener any more.
    ListenersReleased(WorkerId),
    /// Whether it is stopped or traced.
    Held(WorkerId, bool),
    /// Whether it is writing its core.
    Dumping(WorkerId, bool),
    /// Each accept queue has been seen empty.
    QueuesEmpty,
    /// A listener had been shut down and has been replaced by a new socket: workers have the dead one.
    Rebound(String),
    /// The master got a signal.
    Signal(Signal, Sender),
    /// A client asked for something.
    Command(Ticket, Command),
    /// A new generation is pinned, with this policy.
    Pinned(Generation, Rc<Policy>),
    /// It could not be pinned, for this reason.
    PinFailed(Generation, String),
    /// Something happened to the other master, during an upgrade by fork.
    Beside(PeerEvent),
    /// Time has passed: look at the deadlines.
    Due,
}

/// Where the pin of a new generation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Command, environment and config as they stand now.
    Now,
    /// The same, with what a request changes.
    Asked {
        /// Whose.
        ticket: Ticket,
        /// The worker command is another one.
        renewed: bool,
    },
    /// What this generation was pinned to.
    Of(Generation),
    /// The image that comes after this one, which takes this model over and pins as if [`Source::Now`] was asked for. Nothing is answered
    /// meanwhile; a failure is, by the image that fails.
    Successor,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The worker itself.
    Leader,
    /// Its whole process group.
    Group,
}

/// Why a request was not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another operation is under way.
    Busy,
    /// It makes no sense now.
    Senseless,
    /// It makes no sense ever.
    Usage,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done; what was done, and what the reader should know all the same.
    Done(String, Vec<String>),
    /// It failed; the old state holds.
    Failed(String),
    /// It was rolled back.
    RolledBack(String),
    /// A stop came between.
    Aborted(String),
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What somebody who looks for a fault wants to see.
    Debug,
}

/// The worker that a line of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Its slot.
    pub slot: u32,
    /// Its pid.
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: Generation,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker. Answered by [`Event::Forked`] or [`Event::SpawnFailed`] in the same turn.
    Spawn {
        /// Its name.
        worker: WorkerId,
        /// Its slot.
        slot: u32,
        /// Its generation.
        generation: Generation,
    },
    /// Send a signal, followed by CONT unless it is KILL.
    Signal(WorkerId, Signal, To),
    /// Send exactly this signal to the worker itself, because a client asked for it.
    Deliver(WorkerId, Signal),
    /// Pin a new generation. Answered by [`Event::Pinned`] or [`Event::PinFailed`]: in the same turn, but for [`Source::Successor`].
    Pin(Generation, Source),
    /// Nobody will be started from this generation any more.
    Forget(Generation),
    /// Look at the worker's heartbeat page. [`Event::Said`] with a beat comes back if it beat.
    LookAtBeat(WorkerId),
    /// Look whether the worker is stopped or traced. [`Event::Held`] comes back.
    LookWhetherHeld(WorkerId),
    /// Look whether the worker is writing its core. [`Event::Dumping`] comes back.
    LookWhetherDumping(WorkerId),
    /// Look at the accept queues. [`Event::QueuesEmpty`] comes back once each has been seen empty.
    LookAtQueues,
    /// The service says that it is stopping, and still serves.
    AnnounceStop,
    /// Look whether the worker's group still holds a listener. [`Event::ListenersReleased`] comes back if not.
    LookForListeners(WorkerId),
    /// Look whether the worker's group is empty by now. [`Event::Emptied`] comes back if so.
    LookAtGroup(WorkerId),
    /// Nobody tracks this process any more although it lives: it cannot be killed.
    Abandon(WorkerId),
    /// Reopen the logs.
    ReopenLogs,
    /// Send USR1 to those workers that catch it.
    PassUsr1,
    /// Close the master's copies of the listeners.
    CloseListeners,
    /// A request has become an operation.
    Began(Ticket, OpId),
    /// A request was not begun.
    Refused(Ticket, Refusal, String),
    /// An operation went a step on: so many of so many.
    Progress(OpId, usize, usize, String),
    /// An operation has ended.
    Finished(OpId, Outcome),
    /// Do something about the other master, during an upgrade by fork.
    Beside(PeerAction),
    /// A line for the log, and which worker it is about.
    Note(Level, Option<Subject>, String),
    /// The end: exit with this code; the reason, if it is not the one that was asked for.
    Exit(u8, Option<String>),
}

impl Action {
    /// A line about the service.
    pub(crate) fn note(level: Level, text: String) -> Action {
        Action::Note(level, None, text)
    }
}

/// Why and how a slot's process ended: the closed set of the status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Whose; the first of all where a state that was handed over does not tell, so that any later one counts.
    #[serde(default)]
    pub worker: WorkerId,
    /// Why.
    pub cause: Cause,
    /// How; None where there was no process.
    pub ended: Option<Ended>,
    /// When.
    pub at: super::time::Time,
}

/// Why a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It exited by itself.
    Exited,
    /// A signal that was not ours ended it.
    Signaled,
    /// It missed its heartbeat.
    KilledHeartbeat,
    /// There were too many retiring workers, and it was the oldest.
    KilledLimit,
    /// It did not go within its graceful (or quick) timeout.
    KilledGracefulTimeout,
    /// It was not ready within its start timeout.
    KilledStartTimeout,
    /// The program could not be executed.
    ExecFailed,
    /// There never was a process.
    SpawnFailed,
    /// We asked.
    Stopped,
}

impl Cause {
    /// Its name in the status document.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Exited => "exited",
            Cause::Signaled => "signaled",
            Cause::KilledHeartbeat => "killed-heartbeat",
            Cause::KilledLimit => "killed-limit",
            Cause::KilledGracefulTimeout => "killed-graceful-timeout",
            Cause::KilledStartTimeout => "killed-start-timeout",
            Cause::ExecFailed => "exec-failed",
            Cause::SpawnFailed => "spawn-failed",
            Cause::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exited with code {code}"),
            Ended::Signaled(signal, core) => {
                write!(
                    f,
                    "was killed by {}",
                    signal.map_or("an unnamed signal", Signal::name)
                )?;
                if *core {
                    write!(f, " (core dumped)")
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// A number of workers, for people.
pub fn workers(count: usize) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}

/// A duration for people: `1.5s`, `250ms`, `2m`.
pub fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        1000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m {}s", millis / 60_000, millis % 60_000 / 1000),
    }
}
