//! Events of the service, for programs that follow it: the model's facts as JSON, a line each.
//!
//! ```json
//! {"seq":12,"at":"2026-01-31T12:00:00.000Z","event":"worker-ready","slot":0, ...}
//! ```
//!
//! Not every fact is an event: an event says that a worker, a listener, a rollout or the service
//! has another state now. The log has the rest.
//!
//! - this file: which fact is which event, and the lines;
//! - [`kept`]: the events that are kept, as one image or master hands them to the next.
//!
//! An event is rendered once, when it happens, without its number, and stays text from then on: a
//! master tells also those events of an older or a newer one that it does not know itself.

pub mod kept;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation_id::OpWord;
use crate::model::exit::{ExitStatus, LastExit};
use crate::model::fact::Fact;
use crate::model::ids::{Generation, OpId, WorkerLabel};
use crate::model::operation::OperationKind;
use crate::model::releases::listener_change::ListenerLabel;

/// The longest error in an event, in bytes. So an event fits into one message between two masters
/// however its letters are escaped, and 1,000 of them have a limit.
const LONGEST_ERROR: usize = 1024;

/// The line that begins the answer to `events`: what the client has seen, and of which service. It
/// is no event of the service.
pub const FOLLOWING: &str = "following";

/// The service ends.
pub const STOPPING: &str = "stopping";

/// An event with what belongs to it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Happening {
    WorkerStarted(WorkerFields),
    WorkerReady(WorkerFields),
    WorkerRetiring(WorkerFields),
    WorkerExited {
        #[serde(flatten)]
        worker: WorkerFields,
        cause: &'static str,
        code: Option<i32>,
        signal: Option<&'static str>,
        /// The last lines on its stderr; unknown as long as the master does not capture them.
        output: Option<Vec<String>>,
    },
    RolloutStarted(RolloutFields),
    RolloutDone(RolloutFields),
    RolloutFailed(RolloutFields),
    Scaled {
        from: usize,
        to: usize,
    },
    Paused,
    Resumed {
        workers: usize,
    },
    Stopping {
        severity: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    ListenerAdded(ListenerFields),
    ListenerRemoved(ListenerFields),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct WorkerFields {
    slot: u32,
    pid: Option<i32>,
    generation: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct RolloutFields {
    op: OpWord,
    kind: &'static str,
    from: Option<u64>,
    to: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ListenerFields {
    name: Option<String>,
    address: String,
}

/// An event as text without its number, `{"at":...,"event":...}`; None: the fact is no event.
pub fn render(fact: &Fact, at: impl FnOnce() -> String) -> Option<String> {
    #[derive(Serialize)]
    struct Dated {
        at: String,
        #[serde(flatten)]
        what: Happening,
    }
    let what = happening(fact)?;
    serde_json::to_string(&Dated { at: at(), what }).ok()
}

/// The line of an event: its number in front, and the id of the request that asked for it.
pub fn line(number: u64, event: &str, id: Option<&Value>) -> String {
    let rest = event.trim_start().strip_prefix('{').unwrap_or(event);
    match id {
        None => format!("{{\"seq\":{number},{rest}"),
        Some(id) => format!("{{\"seq\":{number},\"id\":{id},{rest}"),
    }
}

/// What a client is told in place of events that are no longer kept.
pub fn missed(at: &str, count: u64) -> String {
    serde_json::json!({ "at": at, "event": "missed", "count": count }).to_string()
}

/// What a client is told first; `log`: which service's events these are.
pub fn following(at: &str, log: &str) -> String {
    serde_json::json!({ "at": at, "event": FOLLOWING, "log": log }).to_string()
}

/// What a follower has to know of a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FollowedEvent {
    /// Its number.
    pub seq: u64,
    /// What it is.
    pub event: String,
    /// Of [`FOLLOWING`]: which service's events these are.
    #[serde(default)]
    pub log: Option<String>,
}

/// Reads a line; None: it is no event.
pub fn parse(line: &str) -> Option<FollowedEvent> {
    serde_json::from_str(line).ok()
}

/// Whether an event tells again what an event before it has told. Two masters may stop the service,
/// or end the upgrade from one to the other, at the same moment: the first to be numbered counts.
pub fn tells_again<'a>(event: &str, mut before: impl Iterator<Item = &'a String>) -> bool {
    let told_once = told_once(event);
    told_once.is_some() && before.any(|before| self::told_once(before) == told_once)
}

/// What a service is told of once: its stop, the end of this operation.
#[derive(PartialEq, Eq)]
enum ToldOnce {
    Stop,
    End(String),
}

fn told_once(event: &str) -> Option<ToldOnce> {
    #[derive(Deserialize)]
    struct Named {
        event: String,
        #[serde(default)]
        op: Option<String>,
    }
    let Named { event, op } = serde_json::from_str(event).ok()?;
    match event.as_str() {
        STOPPING => Some(ToldOnce::Stop),
        "rollout-done" | "rollout-failed" => op.map(ToldOnce::End),
        _ => None,
    }
}

fn happening(fact: &Fact) -> Option<Happening> {
    Some(match fact {
        Fact::WorkerStarted(worker) => Happening::WorkerStarted(worker_fields(worker)),
        Fact::WorkerReady(worker, _) => Happening::WorkerReady(worker_fields(worker)),
        Fact::WorkerRetiring(worker, _) => Happening::WorkerRetiring(worker_fields(worker)),
        Fact::WorkerExited(exit) => worker_exited(&exit.worker, &exit.exit),
        // A new master beside an old one: the upgrade by fork is one rollout, and the old master
        // has told of it.
        Fact::RolloutBegan {
            kind: OperationKind::Upgrade,
            from: None,
            ..
        } => return None,
        Fact::RolloutBegan {
            op, kind, from, to, ..
        } => Happening::RolloutStarted(rollout(*op, *kind, *from, Some(*to), None)),
        Fact::ForkBegan { op, from, to, .. } => {
            let kind = OperationKind::Upgrade;
            Happening::RolloutStarted(rollout(*op, kind, Some(*from), Some(*to), None))
        }
        Fact::RolloutDone {
            op, kind, from, to, ..
        } => Happening::RolloutDone(rollout(*op, *kind, *from, Some(*to), None)),
        Fact::RolledBack {
            op,
            kind,
            from,
            to,
            why,
        }
        | Fact::RolloutGivenUp {
            op,
            kind,
            from,
            to,
            why,
        } => Happening::RolloutFailed(rollout(*op, *kind, *from, Some(*to), Some(why))),
        // No generation was made.
        Fact::PinFailed {
            op,
            kind,
            from,
            why,
        } => Happening::RolloutFailed(rollout(*op, *kind, *from, None, Some(why))),
        Fact::Scaled { from, to } => Happening::Scaled {
            from: *from,
            to: *to,
        },
        Fact::Paused => Happening::Paused,
        Fact::ListenerAdded(listener) => Happening::ListenerAdded(listener_fields(listener)),
        Fact::ListenerRemoved(listener) => Happening::ListenerRemoved(listener_fields(listener)),
        Fact::Resumed(workers) => Happening::Resumed { workers: *workers },
        Fact::StopBegan {
            severity,
            of_service: true,
            reason,
            ..
        } => Happening::Stopping {
            severity: severity.name(),
            reason: reason.as_deref().map(cut),
        },
        // One of two masters ends, and the service goes on in the other.
        Fact::StopBegan {
            of_service: false, ..
        } => return None,
        Fact::WorkerOverdue(..)
        | Fact::AbortOverdue(..)
        | Fact::WorkerUnkillable(_)
        | Fact::DrainLimitReached(_)
        | Fact::GroupRemains(..)
        | Fact::LeftBehind(..)
        | Fact::WorkerIsDaemon(..)
        | Fact::LeftoverOverdue(_)
        | Fact::LeftoverUnkillable(_)
        | Fact::LeftAlone(_)
        | Fact::Survives(_)
        | Fact::HeartbeatMissed(..)
        | Fact::WorkerHeld(..)
        | Fact::ListenerStillHeld(..)
        | Fact::SlotDown(_)
        | Fact::WorkerExecuted(_)
        | Fact::SignalSent(..)
        | Fact::SlotWaits(..)
        | Fact::GaveUp(..)
        | Fact::LoopWasLate(_)
        | Fact::RolloutOnProbation { .. }
        | Fact::RollingBack { .. }
        | Fact::SignalDeferred(..)
        | Fact::SignalIgnored(_)
        | Fact::SignalRefused(..)
        | Fact::DeferredPauseDropped(_)
        | Fact::ReboundDeferred { .. }
        | Fact::RetireBegan(..)
        | Fact::RestartBegan(_)
        | Fact::RestartFailed(..)
        | Fact::ScaleBegan { .. }
        | Fact::ScaleFailed(..)
        | Fact::ScaleRefused(_)
        | Fact::PauseBegan
        | Fact::ResumeBegan(_)
        | Fact::LifelineEnded(_)
        | Fact::StopHardened(_)
        | Fact::StopDelayed(_)
        | Fact::QueuesAwaited
        | Fact::QueuesNotEmpty
        | Fact::Stopped
        | Fact::PeerUp(_)
        | Fact::PeerExited(..)
        | Fact::PeerSilent(..)
        | Fact::ForkTurnedBack(_)
        | Fact::ForkGoesOn
        | Fact::BothMastersServe(..)
        // The new master tells that the rollout is done.
        | Fact::ForkDone { .. } => return None,
    })
}

fn listener_fields(listener: &ListenerLabel) -> ListenerFields {
    ListenerFields {
        name: listener.name.clone(),
        address: listener.address.clone(),
    }
}

fn worker_fields(worker: &WorkerLabel) -> WorkerFields {
    WorkerFields {
        slot: worker.slot,
        pid: worker.pid,
        generation: worker.generation.0,
    }
}

fn worker_exited(worker: &WorkerLabel, exit: &LastExit) -> Happening {
    let (code, signal) = match exit.ended {
        Some(ExitStatus::Exited(code)) => (Some(code), None),
        Some(ExitStatus::Signaled(signal, _)) => (None, signal.map(|signal| signal.name())),
        None => (None, None),
    };
    Happening::WorkerExited {
        worker: worker_fields(worker),
        cause: exit.cause.name(),
        code,
        signal,
        output: None,
    }
}

fn rollout(
    op: OpId,
    kind: OperationKind,
    from: Option<Generation>,
    to: Option<Generation>,
    why: Option<&String>,
) -> RolloutFields {
    RolloutFields {
        op: op.into(),
        kind: kind.name(),
        from: from.map(|from| from.0),
        to: to.map(|to| to.0),
        error: why.map(|why| cut(why)),
    }
}

fn cut(why: &str) -> String {
    super::text::cut(why, LONGEST_ERROR)
}

#[cfg(test)]
mod tests;
