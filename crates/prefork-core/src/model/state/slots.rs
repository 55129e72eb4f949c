//! A slot: a worker's stable number, and what the supervisor remembers about whoever holds it.

use serde::{Deserialize, Serialize};

use crate::model::backoff::Backoff;
use crate::model::event::{Generation, LastExit, OpId, WorkerId};
use crate::model::policy::Policy;
use crate::model::time::Time;

/// One slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slot {
    /// Who holds it.
    pub current: Option<WorkerId>,
    /// Who is to take it once ready.
    pub replacement: Option<WorkerId>,
    /// Nobody starts here before this one is gone (`--surge 0`).
    pub blocked_by: Option<WorkerId>,
    /// The slot was emptied on purpose for the generation that is being rolled to (`--surge 0`).
    pub emptied_for_new: bool,
    /// A worker of this generation ended with a fatal exit code: none of that generation is started here again.
    pub down: Option<Generation>,
    /// The wait before the next start.
    pub backoff: Backoff,
    /// Failed starts of the old generation while rolling back.
    pub failed_back: u32,
    /// How often its process died by itself.
    pub restarts: u64,
    /// How its previous process ended.
    pub last_exit: Option<LastExit>,
    /// The `restart-worker` that is under way here.
    pub restart: Option<Restart>,
}

/// A `restart-worker` under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restart {
    /// Its operation.
    pub op: OpId,
    /// Who is being replaced.
    pub old: Option<WorkerId>,
    /// Failed starts of the replacement.
    pub failures: u32,
    /// Since when the new one holds the slot and only the old one's letting go is waited for.
    pub settled_at: Option<Time>,
}

impl Slot {
    /// An empty slot.
    pub fn new(policy: &Policy) -> Self {
        Slot {
            current: None,
            replacement: None,
            blocked_by: None,
            emptied_for_new: false,
            down: None,
            backoff: Backoff::new(policy.backoff),
            failed_back: 0,
            restarts: 0,
            last_exit: None,
            restart: None,
        }
    }
}
