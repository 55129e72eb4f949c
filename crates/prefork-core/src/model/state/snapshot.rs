//! Plain data that describes the service at one moment, for display.

use super::rollout::RolloutRecord;
use crate::model::counters::{Counters, SlotTotals};
use crate::model::exit::LastExit;
use crate::model::ids::{Generation, WorkerId};
use crate::model::operation::Operation;
use crate::model::time::Time;

/// Which part this master has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `Role::name`")]
pub enum Role {
    Master,
    Old,
    New,
}

impl Role {
    /// The word in the status document: `old` and `new` during an upgrade by fork alone.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Old => "old",
            Role::New => "new",
        }
    }
}

/// What the service is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `ServiceState::name`")]
pub enum ServiceState {
    Starting,
    Running,
    Rolling,
    Paused,
    Stopping,
}

impl ServiceState {
    /// The word in the status document.
    pub const fn name(self) -> &'static str {
        match self {
            ServiceState::Starting => "starting",
            ServiceState::Running => "running",
            ServiceState::Rolling => "rolling",
            ServiceState::Paused => "paused",
            ServiceState::Stopping => "stopping",
        }
    }
}

/// What a slot, or a worker without a slot, is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `SlotState::name`")]
pub enum SlotState {
    Starting,
    Ready,
    /// Ready, but stopped or traced: it serves no client.
    Held,
    Stopping,
    Backoff,
    /// A fatal exit code: the slot is not filled again.
    Down,
    Empty,
}

impl SlotState {
    /// The word in the status document.
    pub const fn name(self) -> &'static str {
        match self {
            SlotState::Starting => "starting",
            SlotState::Ready => "ready",
            SlotState::Held => "held",
            SlotState::Stopping => "stopping",
            SlotState::Backoff => "backoff",
            SlotState::Down => "down",
            SlotState::Empty => "empty",
        }
    }

    /// The state that is shown of a process that `/proc` shows as stopped: it serves no client,
    /// also if it said something else before.
    pub fn when_stopped(self) -> SlotState {
        match self {
            SlotState::Ready => SlotState::Held,
            SlotState::Starting
            | SlotState::Held
            | SlotState::Stopping
            | SlotState::Backoff
            | SlotState::Down
            | SlotState::Empty => self,
        }
    }
}

/// Everything that the supervisor knows, for display.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the service is about.
    pub state: ServiceState,
    /// The generation that serves; before the first is ready, that one.
    pub generation: Generation,
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers that are not ready yet.
    pub starting: usize,
    /// Slots that wait before their next start.
    pub backoff: usize,
    /// One entry a slot.
    pub slots: Vec<SlotView>,
    /// Replacements that have no slot yet.
    pub replacements: Vec<SlotView>,
    /// Workers that were told to finish.
    pub retiring: Vec<SlotView>,
    /// The last rollout.
    pub rollout: Option<RolloutRecord>,
    /// The last operations, oldest first.
    pub operations: Vec<Operation>,
    /// Totals.
    pub counters: Counters,
}

/// A slot, or a worker that has none.
#[derive(Debug, Clone)]
pub struct SlotView {
    /// The slot's number.
    pub slot: u32,
    /// The worker, if there is one.
    pub worker: Option<WorkerId>,
    /// Its pid.
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: Option<Generation>,
    /// What it is about.
    pub state: SlotState,
    /// When it was started.
    pub started_at: Option<Time>,
    /// When it was ready.
    pub ready_at: Option<Time>,
    /// What the slot keeps for good.
    pub totals: SlotTotals,
    /// How the slot's previous process ended.
    pub last_exit: Option<LastExit>,
}
