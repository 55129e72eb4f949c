//! What happened, as values. The model states each fact once; the log line, the status document,
//! and all other reports are tellings of the same value.
//!
//! [`text`] renders a fact as a line of the log, and [`reasons`] are parts of some facts. To add a
//! fact: a variant here, its level and subject in `about`, its line in `text`; the compiler names
//! all three places.

mod about;
pub mod reasons;
pub mod text;

use std::time::Duration;

use crate::model::exit::LastExit;
use crate::model::ids::{Generation, OpId, WorkerLabel};
use crate::model::leftover::LeftBehind;
use crate::model::operation::OperationKind;
use crate::model::peer::PeerLabel;
use crate::model::policy::StopSeverity;
use crate::model::releases::listener_change::ListenerLabel;
use crate::model::signal::{Signal, SignalTarget};
use reasons::{SignalReason, StopReason};

/// How much a fact matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator wants to see.
    Info,
    /// What helps to find a fault.
    Debug,
}

/// A worker's end, with what explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerExit {
    /// The worker.
    pub worker: WorkerLabel,
    /// How and why.
    pub exit: LastExit,
    /// Why it could not be started, or why it was killed, in words.
    pub failure: Option<String>,
    /// The time that it had, where it was killed for taking longer.
    pub patience: Duration,
    /// The master had asked it to finish.
    pub asked: bool,
    /// It had said that it stops, and exited 0: no death.
    pub finished: bool,
    /// How long it had been ready; None: it never was.
    pub ready_for: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A worker's process exists.
    WorkerStarted(WorkerLabel),
    /// A worker's exec succeeded.
    WorkerExecuted(WorkerLabel),
    /// A worker was told to finish, for the first time, for this reason.
    WorkerRetiring(WorkerLabel, StopReason),
    /// A worker, or its whole group, gets this signal, for this reason.
    SignalSent(WorkerLabel, Signal, SignalTarget, SignalReason),
    /// A worker became ready, this long after its start.
    WorkerReady(WorkerLabel, Duration),
    /// A worker's leader ended.
    WorkerExited(WorkerExit),
    /// A worker was not gone in time, and gets KILL.
    WorkerOverdue(WorkerLabel, Duration),
    /// A worker survived its abort signal, and gets KILL.
    AbortOverdue(WorkerLabel, Signal),
    /// A worker survived KILL, and is supervised no more.
    WorkerUnkillable(WorkerLabel),
    /// More workers drain than `--max-draining` allows: the oldest gets KILL.
    DrainLimitReached(WorkerLabel),
    /// A leader ended before its process group, which gets this signal.
    GroupRemains(WorkerLabel, Signal),
    /// A process that a worker left behind holds a listener, and gets this signal.
    LeftBehind(LeftBehind, Signal),
    /// The same; the worker ended with 0 at once: it has put itself into the background.
    WorkerIsDaemon(LeftBehind, Signal),
    /// What a worker left behind was not gone in time, and gets KILL.
    LeftoverOverdue(LeftBehind),
    /// What a worker left behind survived KILL.
    LeftoverUnkillable(LeftBehind),
    /// The service ends, and this process holds nothing of it: it lives on.
    LeftAlone(LeftBehind),
    /// The service ends, and this process of it lives on.
    Survives(LeftBehind),
    /// A worker missed its heartbeat, for this reason, and gets this signal.
    HeartbeatMissed(WorkerLabel, String, Signal),
    /// A worker is stopped or traced (true), or goes on (false).
    WorkerHeld(WorkerLabel, bool),
    /// A worker was told to finish, and still holds a listener after this long.
    ListenerStillHeld(WorkerLabel, Duration),
    /// The workers of the generation that is rolled to have this listener, which others have not.
    ListenerAdded(ListenerLabel),
    /// The master has closed this listener: the service has it no more.
    ListenerRemoved(ListenerLabel),
    /// A slot stays empty: its worker exited with a fatal code.
    SlotDown(u32),
    /// A slot's next start is in this time, and not before.
    SlotWaits(u32, Duration),
    /// After a death in this slot the service gives up: so many starts in a row have failed.
    GaveUp(u32, u32),
    /// The master itself was late: heartbeats are timed anew.
    LoopWasLate(Duration),
    /// A rollout began.
    RolloutBegan {
        /// The operation.
        op: OpId,
        /// What asked for it.
        kind: OperationKind,
        /// The generation that served; None: the first rollout of this master.
        from: Option<Generation>,
        /// The new generation.
        to: Generation,
        /// How many slots.
        slots: usize,
    },
    /// A rollout has every slot, and its probation begins.
    RolloutOnProbation {
        /// What asked for it.
        kind: OperationKind,
        /// The new generation.
        to: Generation,
        /// How long it lasts.
        trial: Duration,
    },
    /// A rollout is done.
    RolloutDone {
        /// The operation.
        op: OpId,
        /// What asked for it.
        kind: OperationKind,
        /// The generation that served before, also in another master.
        from: Option<Generation>,
        /// The generation that serves now.
        to: Generation,
        /// How many slots.
        slots: usize,
        /// How long it took.
        took: Duration,
    },
    /// A rollout turned back, for this reason.
    RollingBack {
        /// What asked for the rollout.
        kind: OperationKind,
        /// The generation that failed.
        to: Generation,
        /// Why.
        why: String,
    },
    /// A rollout is undone.
    RolledBack {
        /// The operation.
        op: OpId,
        /// What asked for the rollout.
        kind: OperationKind,
        /// The generation that serves again.
        from: Option<Generation>,
        /// The generation that failed.
        to: Generation,
        /// Why.
        why: String,
    },
    /// A rollout has ended where it stood: a stop came between, or there is nothing to go back to.
    RolloutGivenUp {
        /// The operation.
        op: OpId,
        /// What asked for the rollout.
        kind: OperationKind,
        /// The generation that served before.
        from: Option<Generation>,
        /// The new generation.
        to: Generation,
        /// Why.
        why: String,
    },
    /// A generation could not be pinned: nothing has changed.
    PinFailed {
        /// The operation.
        op: OpId,
        /// What asked for it.
        kind: OperationKind,
        /// The generation that serves.
        from: Option<Generation>,
        /// Why.
        why: String,
    },
    /// A signal is deferred until this has ended.
    SignalDeferred(Signal, String),
    /// A signal means nothing while the service stops.
    SignalIgnored(Signal),
    /// What a signal asked for was refused, for this reason.
    SignalRefused(Signal, String),
    /// A deferred pause was taken back by this.
    DeferredPauseDropped(OperationKind),
    /// A listener was made anew; its new workers wait until this has ended.
    ReboundDeferred {
        /// The listener.
        listener: String,
        /// What is under way.
        busy: String,
    },
    /// The draining workers of a generation were told to go now.
    RetireBegan(Generation, usize),
    /// A slot's worker is being replaced on request.
    RestartBegan(u32),
    /// That failed.
    RestartFailed(u32, String),
    /// The number of slots changes.
    ScaleBegan {
        /// Before.
        from: usize,
        /// After.
        to: usize,
    },
    /// The number of slots has changed.
    Scaled {
        /// Before.
        from: usize,
        /// After.
        to: usize,
    },
    /// The change was undone.
    ScaleFailed(usize, String),
    /// The change was not begun.
    ScaleRefused(String),
    /// The workers were told to finish.
    PauseBegan,
    /// They have finished.
    Paused,
    /// This many workers are started again.
    ResumeBegan(usize),
    /// They are ready.
    Resumed(usize),
    /// A stop began.
    StopBegan {
        /// How hard.
        severity: StopSeverity,
        /// How many workers this master has.
        workers: usize,
        /// The service ends, and no other master has told of it: not this master alone.
        of_service: bool,
        /// Why, unless a client or a signal asked for it.
        reason: Option<String>,
    },
    /// The lifeline has ended, in these words, and the service is to stop.
    LifelineEnded(String),
    /// A stop became harder.
    StopHardened(StopSeverity),
    /// The service serves on for this long before its workers are told.
    StopDelayed(Duration),
    /// The service serves on until its accept queues have been seen empty.
    QueuesAwaited,
    /// They have not been, in time.
    QueuesNotEmpty,
    /// Nothing is left of the service.
    Stopped,
    /// A new master is started beside this one.
    ForkBegan {
        /// The operation.
        op: OpId,
        /// The generation that serves.
        from: Generation,
        /// Its first generation.
        to: Generation,
        /// Both serve until one is told to quit.
        manual: bool,
    },
    /// The new master is up.
    PeerUp(PeerLabel),
    /// The other master has ended, in these words; whether that was expected.
    PeerExited(PeerLabel, String, bool),
    /// The other master has not answered for this long, and is ended.
    PeerSilent(PeerLabel, Duration),
    /// The upgrade by fork goes back, for this reason.
    ForkTurnedBack(String),
    /// The old master is gone: the upgrade by fork goes on.
    ForkGoesOn,
    /// Both masters serve, the other one with this many workers.
    BothMastersServe(PeerLabel, usize),
    /// The new master has the service.
    ForkDone {
        /// The generation that serves now.
        to: Generation,
        /// How many workers the new master has.
        workers: usize,
        /// The new master.
        peer: PeerLabel,
        /// How long it took.
        took: Duration,
    },
}
