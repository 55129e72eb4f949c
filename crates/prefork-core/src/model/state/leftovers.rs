//! What workers left behind outside their process groups, as plain data.
//!
//! The master is a subreaper, so such a process becomes its child when the process that started it
//! ends. The model knows of it from the driver's looks: each [`LeftBehind`] list is complete, and a
//! process that is not in it any more is gone.

use std::collections::BTreeMap;

use crate::model::ids::{LeftoverId, WorkerId, WorkerLabel};
use crate::model::leftover::LeftBehind;
use crate::model::policy::StopSeverity;
use crate::model::time::Time;

/// How far it was told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftoverStage {
    /// Not at all: the worker that left it behind lives, or it holds no listener.
    Untold,
    /// This hard, and it must be gone by then.
    Told(StopSeverity, Time),
    /// It survived KILL.
    GivenUp,
}

impl LeftoverStage {
    /// How hard it was told, if the master still waits for its end.
    pub(crate) fn told(self) -> Option<(StopSeverity, Time)> {
        match self {
            LeftoverStage::Told(severity, by) => Some((severity, by)),
            LeftoverStage::Untold | LeftoverStage::GivenUp => None,
        }
    }

    /// Whether the master has given it up.
    pub(crate) fn is_given_up(self) -> bool {
        match self {
            LeftoverStage::GivenUp => true,
            LeftoverStage::Untold | LeftoverStage::Told(..) => false,
        }
    }
}

/// A process that a worker left behind.
#[derive(Debug, Clone)]
pub(crate) struct Leftover {
    pub(crate) found: LeftBehind,
    /// The newest worker when it was found first: the one that left it behind is no newer.
    pub(crate) newest_worker: WorkerId,
    pub(crate) stage: LeftoverStage,
}

/// Whether the last look was late enough to end the service on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LastLook {
    /// A worker has gone since.
    #[default]
    Wanted,
    /// It was asked for.
    Asked,
    /// It was after the end of the last worker.
    Done,
}

/// All that is known of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftovers {
    pub(crate) known: BTreeMap<LeftoverId, Leftover>,
    /// Workers that survived KILL: the driver finds them among what is left behind.
    pub(crate) abandoned: Vec<WorkerLabel>,
    pub(crate) last_look: LastLook,
    /// How often was looked since the first of them was told.
    pub(crate) looks: u32,
}
