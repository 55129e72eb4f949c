//! Totals, as JSON has them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exits::cause;
use crate::model::counters::{Counters, Exits, SlotTotals};
use crate::model::exit::Cause;

/// The totals of a service. What an older image did not count begins at 0.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Totals {
    spawned: u64,
    readied: u64,
    died: u64,
    failed_starts: u64,
    killed: u64,
    rollouts: u64,
    rolled_back: u64,
    #[serde(default)]
    requests: u64,
    #[serde(default)]
    connections: u64,
    #[serde(default)]
    log_lines_lost: u64,
    /// By cause; a cause that is not named has none.
    #[serde(default)]
    exits: BTreeMap<String, u64>,
}

impl From<&Counters> for Totals {
    fn from(counters: &Counters) -> Self {
        Totals {
            spawned: counters.spawned,
            readied: counters.readied,
            died: counters.died,
            failed_starts: counters.failed_starts,
            killed: counters.killed,
            rollouts: counters.rollouts,
            rolled_back: counters.rolled_back,
            requests: counters.requests,
            connections: counters.connections,
            log_lines_lost: counters.log_lines_lost,
            exits: Cause::ALL
                .into_iter()
                .map(|cause| (cause.name().to_owned(), counters.exits.of(cause)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

impl From<Totals> for Counters {
    fn from(totals: Totals) -> Self {
        let mut exits = Exits::default();
        for (name, count) in totals.exits {
            // A cause that only another version knows is not shown here.
            if let Ok(cause) = cause(&name) {
                exits.add(cause, count);
            }
        }
        Counters {
            spawned: totals.spawned,
            readied: totals.readied,
            died: totals.died,
            failed_starts: totals.failed_starts,
            killed: totals.killed,
            rollouts: totals.rollouts,
            rolled_back: totals.rolled_back,
            requests: totals.requests,
            connections: totals.connections,
            log_lines_lost: totals.log_lines_lost,
            exits,
        }
    }
}

/// What a slot keeps for good: restarts, and processor time.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct KnownSlotTotals(u64, Duration);

impl From<SlotTotals> for KnownSlotTotals {
    fn from(totals: SlotTotals) -> Self {
        KnownSlotTotals(totals.restarts, totals.cpu)
    }
}

impl From<KnownSlotTotals> for SlotTotals {
    fn from(KnownSlotTotals(restarts, cpu): KnownSlotTotals) -> Self {
        SlotTotals { restarts, cpu }
    }
}
