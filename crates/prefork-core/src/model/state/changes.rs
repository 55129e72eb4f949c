//! Changes under way that are no rollouts: of the number of slots, of drains, of the whole service.

use std::collections::BTreeMap;

use crate::model::ids::{Generation, OpId};
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::time::Time;

/// What a failed change of the number of slots goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotsBefore {
    /// This many slots.
    Slots(usize),
    /// Paused, with this many.
    Paused(usize),
}

/// A change of the number of slots under way: `scale`, TTIN, TTOU, `resume`.
#[derive(Debug, Clone)]
pub struct Scaling {
    /// The operations that wait for it.
    pub ops: Vec<OpId>,
    /// The number of slots that was asked for.
    pub want: usize,
    /// What it goes back to if it fails.
    pub before: SlotsBefore,
    /// Failed starts and deaths of added workers so far.
    pub failures: u32,
    /// Slots that were there before, and whose workers die.
    pub failing: BTreeMap<u32, FailingSlot>,
}

/// A slot that cannot keep a worker, and that a change of the number of slots does not wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingSlot {
    /// How many died by themselves since the change began.
    pub deaths: u32,
    /// How the last one ended.
    pub why: String,
}

/// A `retire` under way.
#[derive(Debug, Clone, Copy)]
pub struct Retiring {
    /// The operation.
    pub op: OpId,
    /// The generation whose drain ends now.
    pub generation: Generation,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopStage {
    /// It is announced, and the service still serves (`--stop-delay`).
    Announced,
    /// The service serves until its accept queues have been seen empty (`--drain-queue`).
    DrainingQueues,
    /// The workers were told.
    WorkersTold,
}

/// A stop under way.
#[derive(Debug, Clone)]
pub(crate) struct Stopping {
    pub(crate) severity: StopSeverity,
    pub(crate) code: u8,
    pub(crate) stage: StopStage,
    /// It began while the service was paused: there is no worker that could serve on.
    pub(crate) paused: bool,
    pub(crate) reason: Option<String>,
    pub(crate) ops: Vec<OpId>,
    pub(crate) last_signal: Option<(Signal, Time)>,
    /// The listeners whose accept queues have been seen empty, by the inode of their socket.
    pub(crate) seen_empty: std::collections::BTreeSet<u64>,
}

/// What the supervisor is about, rollouts aside.
#[derive(Debug, Clone)]
pub(crate) enum Mode {
    /// The driver has not reported [`Event::Start`](crate::model::event::Event::Start) yet.
    Idle,
    /// Slots are kept filled.
    Running,
    /// The workers were sent away; the operation that waits for that.
    Paused(Option<OpId>),
    /// The service is going.
    Stopping(Stopping),
    /// It is gone.
    Over,
}

impl Mode {
    /// Whether workers were sent away until a resume.
    pub(crate) fn is_paused(&self) -> bool {
        match self {
            Mode::Paused(_) => true,
            Mode::Idle | Mode::Running | Mode::Stopping(_) | Mode::Over => false,
        }
    }

    /// The stop under way.
    pub(crate) fn stopping(&self) -> Option<&Stopping> {
        match self {
            Mode::Stopping(stopping) => Some(stopping),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => None,
        }
    }

    /// The stop under way.
    pub(crate) fn stopping_mut(&mut self) -> Option<&mut Stopping> {
        match self {
            Mode::Stopping(stopping) => Some(stopping),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => None,
        }
    }
}

/// Signals that came during a rollout and follow it, once each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the signals' names")]
pub struct DeferredSignals {
    pub hup: bool,
    pub winch: bool,
}
