//! Everything that can happen, as the driver reports it to [`Supervisor::step`].
//!
//! | event | goes to |
//! | --- | --- |
//! | `Start` | `supervisor/mod.rs`: the first rollout |
//! | `Forked`, `SpawnFailed`, `Executed`, `ExecFailed` | the worker's state machine, `worker/` |
//! | `Said`, `Held`, `Dumping` | the same |
//! | `OomKills` | `state/oom.rs`: which deaths it explains |
//! | `Exited`, `Emptied` | `worker/exit.rs`, then `supervisor/worker_exit.rs` |
//! | `ListenersReleased` | `rollout/listener_release.rs` waits for it |
//! | `QueueDepths` | `supervisor/stop.rs` (`--drain-queue`) |
//! | `LeftBehind` | `supervisor/leftovers.rs` |
//! | `Rebound`, `Signal`, `Command` | `supervisor/commands.rs`, which sends each verb to its file |
//! | `Pinned`, `PinFailed` | `rollout/pin.rs` |
//! | `Peer` | `fork/lifecycle.rs`, `fork/slot_transfer.rs` |
//! | `LifelineEnded` | `supervisor/stop.rs` |
//! | `Worked`, `LogLinesLost` | `supervisor/count.rs` |
//! | `Due` | `supervisor/timers_due.rs`, a line a timer |
//!
//! [`Supervisor::step`]: super::Supervisor::step

use std::rc::Rc;
use std::time::Duration;

use super::counters::Work;
use super::exit::{ExitStatus, OomCount, OomReading};
use super::ids::{Generation, Ticket, WorkerId};
use super::leftover::LeftBehind;
use super::peer::PeerEvent;
use super::policy::{Policy, StopSeverity};
use super::releases::PinnedRelease;
use super::signal::{Sender, Signal};

/// What a worker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerMessage {
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
    /// `EXTEND_TIMEOUT_USEC=`: it needs this long from now, also for what it does already.
    Extend(Duration),
}

/// What a client of the control socket asks the supervisor for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Roll to a new generation.
    Reload {
        /// The worker command is a new one, so what `--ready auto` has learnt of the old one does
        /// not hold for it.
        renewed: bool,
    },
    /// Put another image of the master in place of this one, then roll to a new generation.
    Upgrade,
    /// Start another master beside this one; `manual`: both serve until one is told to quit.
    Fork {
        /// Neither master gives up a slot by itself.
        manual: bool,
    },
    /// Go through one of these with a copy of the pin that serves: nothing is deployed.
    Rehearse(Rehearsal),
    /// End a running rollout, or roll to the release before; or to the release of this generation.
    Rollback(Option<Generation>),
    /// Set the number of slots.
    Scale(Scale),
    /// Stop the service, this hard.
    Stop(StopSeverity),
    /// Stop the workers, keep the master.
    Pause,
    /// Bring them back.
    Resume,
    /// Replace the worker of one slot.
    RestartWorker(u32),
    /// Reopen the logs, pass USR1 on.
    Reopen,
    /// Deliver a signal to all workers, or to the current one of this slot.
    Signal(Signal, Option<u32>),
    /// End the drain of this generation now.
    Retire(Generation),
    /// Give the workers more listeners, which came with the request.
    AddListeners {
        /// The service does not have all of them already.
        new: bool,
    },
    /// Take the listeners that the request names away from the workers.
    RemoveListeners,
}

/// What is gone through without deploying anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// A reload.
    Reload,
    /// An upgrade in place, to the image that runs.
    Upgrade,
    /// An upgrade by fork, to the image that runs.
    Fork,
}

/// A number of slots: absolute, or a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// This many.
    To(usize),
    /// This many more, or fewer (never below 0).
    By(i64),
}

/// How a lifeline has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifelineEnd {
    /// A byte has arrived.
    Byte,
    /// Each process that had the other end has closed it, or has ended.
    NoHolder,
}

/// The depth of one listener's accept queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// The inode of the listener's socket: its name here.
    pub listener: u64,
    /// How many connections wait in it. A socket that has no queue, or none that can be read, has
    /// 0.
    pub queued: u32,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The driver is set up, and the first generation pinned: the first rollout may begin.
    Start(PinnedRelease),
    /// The worker's process exists. The pid is a label.
    Forked(WorkerId, i32),
    /// There is no process: fork, a pipe or a descriptor failed, for this reason.
    SpawnFailed(WorkerId, String),
    /// Its exec succeeded.
    Executed(WorkerId),
    /// Its exec failed, for this reason; its process ends by itself, and [`Event::Exited`] follows.
    ExecFailed(WorkerId, String),
    /// It said something.
    Said(WorkerId, WorkerMessage),
    /// Its leader has ended.
    Exited {
        /// The worker.
        worker: WorkerId,
        /// How its leader ended.
        ended: ExitStatus,
        /// Whether its process group still has members.
        rest: bool,
    },
    /// A count of OOM kills, as just read; [`Event::Exited`] of the worker follows.
    OomKills(OomReading, OomCount),
    /// The rest of its process group is gone, too.
    Emptied(WorkerId),
    /// Its process group holds no listener any more.
    ListenersReleased(WorkerId),
    /// Whether it is stopped or traced.
    Held(WorkerId, bool),
    /// Whether it is writing its core.
    Dumping(WorkerId, bool),
    /// All that workers have left behind, as just looked at.
    LeftBehind(Vec<LeftBehind>),
    /// The depths of all accept queues, as just looked at.
    QueueDepths(Vec<QueueDepth>),
    /// A listener had been shut down and has been replaced by a new socket: workers have the dead
    /// one.
    Rebound(String),
    /// The master got a signal.
    Signal(Signal, Sender),
    /// A client asked for something.
    Command(Ticket, Command),
    /// A new generation is pinned, with this policy.
    Pinned(Generation, Rc<Policy>, PinnedRelease),
    /// It could not be pinned, for this reason.
    PinFailed(Generation, String),
    /// Something happened to the other master, during an upgrade by fork.
    Peer(PeerEvent),
    /// The worker has done this since that was last told.
    Worked(WorkerId, Work),
    /// So many lines of the log could not be written.
    LogLinesLost(u64),
    /// The lifeline has ended: the descriptor of this number, and how.
    LifelineEnded(i32, LifelineEnd),
    /// Time has passed: look at the deadlines.
    Due,
}
