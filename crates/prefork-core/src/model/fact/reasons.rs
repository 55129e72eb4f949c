//! Why workers are told to finish, and why they get signals: as values, and in words.

use std::fmt;
use std::time::Duration;

use super::text::human;
use crate::model::ids::Generation;
use crate::model::operation::OperationKind;
use crate::model::signal::Signal;

/// Which operation tells a worker to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A rollout of this kind, to this generation.
    Rollout(OperationKind, Generation),
    /// A rollout that goes back.
    RollingBack,
    /// `restart-worker`.
    Restart,
    /// Its slot was scaled away.
    Scale,
    /// `pause`, or WINCH.
    Pause,
    /// The end of the service, or of this master.
    Stop,
    /// `retire`: its drain ends now.
    Retire,
    /// An upgrade by fork: the other master has a worker for its slot.
    OtherMaster,
}

impl StopReason {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::Rollout(kind, _) => kind.name(),
            StopReason::RollingBack => "rolling-back",
            StopReason::Restart => "restart-worker",
            StopReason::Scale => "scale",
            StopReason::Pause => "pause",
            StopReason::Stop => "stop",
            StopReason::Retire => "retire",
            StopReason::OtherMaster => "upgrade",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Rollout(kind, to) => write!(f, "{kind} to generation {to}"),
            StopReason::RollingBack => f.write_str("the rollout is rolled back"),
            StopReason::Restart
            | StopReason::Scale
            | StopReason::Pause
            | StopReason::Stop
            | StopReason::Retire => f.write_str(self.name()),
            StopReason::OtherMaster => f.write_str("upgrade: the other master has the slot"),
        }
    }
}

/// Why a worker gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalReason {
    /// It is told to finish.
    Told(StopReason),
    /// It was told, and is not gone after this long.
    NotGone(Duration),
    /// More drain than `--max-draining`, and it is the oldest.
    DrainLimit,
    /// It was not ready in time, or never will be.
    NotReady,
    /// It missed its heartbeat.
    HeartbeatMissed,
    /// It survived its abort signal.
    AbortOverdue(Signal),
    /// A client asked for it.
    Requested,
    /// The logs are reopened.
    Reopen,
}

impl SignalReason {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            SignalReason::Told(reason) => reason.name(),
            SignalReason::NotGone(_) => "not-gone",
            SignalReason::DrainLimit => "max-draining",
            SignalReason::NotReady => "not-ready",
            SignalReason::HeartbeatMissed => "heartbeat-missed",
            SignalReason::AbortOverdue(_) => "not-aborted",
            SignalReason::Requested => "requested",
            SignalReason::Reopen => "reopen",
        }
    }
}

impl fmt::Display for SignalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignalReason::Told(reason) => reason.fmt(f),
            SignalReason::NotGone(patience) => {
                write!(f, "it is not gone after {}", human(*patience))
            }
            SignalReason::DrainLimit => f.write_str("too many workers drain, and it is the oldest"),
            SignalReason::NotReady => f.write_str("it is not ready"),
            SignalReason::HeartbeatMissed => f.write_str("its heartbeat has stopped"),
            SignalReason::AbortOverdue(signal) => write!(f, "it is not gone after {signal}"),
            SignalReason::Requested => f.write_str("a client asked for it"),
            SignalReason::Reopen => f.write_str("logs are reopened"),
        }
    }
}
