//! Changes of the service, under way or over, as JSON has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::KindName;
use crate::model::ids::{Generation, OpId};
use crate::model::state::changes::{FailingSlot, Scaling, SlotsBefore};
use crate::model::state::rollout::{RolloutRecord, RolloutResult};
use crate::wire::operation_id::OpWord;

/// How the last rollout ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rollout {
    op: OpWord,
    kind: KindName,
    from: Option<u64>,
    to: u64,
    result: String,
    error: Option<String>,
    took: Option<Duration>,
}

/// A change of the number of slots under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    ops: Vec<OpWord>,
    want: usize,
    before: usize,
    was_paused: bool,
    failures: u32,
    /// Slots that were there before, how many of their workers died, and how the last one did.
    #[serde(default)]
    failing: Vec<(u32, u32, String)>,
}

/// A result by its word in the status document.
pub(super) fn result(name: &str) -> Result<RolloutResult, String> {
    let known = RolloutResult::ALL
        .into_iter()
        .find(|result| result.name() == name);
    known.ok_or_else(|| format!("unknown result '{name}'"))
}

impl From<&RolloutRecord> for Rollout {
    fn from(record: &RolloutRecord) -> Self {
        Rollout {
            op: record.op.into(),
            kind: KindName(record.kind),
            from: record.from.map(|generation| generation.0),
            to: record.to.0,
            result: record.result.name().to_owned(),
            error: record.error.clone(),
            took: record.took,
        }
    }
}

impl TryFrom<Rollout> for RolloutRecord {
    type Error = String;

    fn try_from(rollout: Rollout) -> Result<Self, String> {
        Ok(RolloutRecord {
            op: rollout.op.into(),
            kind: rollout.kind.0,
            from: rollout.from.map(Generation),
            to: Generation(rollout.to),
            result: result(&rollout.result)?,
            error: rollout.error,
            took: rollout.took,
        })
    }
}

impl From<&Scaling> for Scale {
    fn from(scaling: &Scaling) -> Self {
        let (before, was_paused) = match scaling.before {
            SlotsBefore::Slots(before) => (before, false),
            SlotsBefore::Paused(before) => (before, true),
        };
        Scale {
            ops: scaling.ops.iter().copied().map(OpWord).collect(),
            want: scaling.want,
            before,
            was_paused,
            failures: scaling.failures,
            failing: scaling
                .failing
                .iter()
                .map(|(slot, failing)| (*slot, failing.deaths, failing.why.clone()))
                .collect(),
        }
    }
}

impl From<Scale> for Scaling {
    fn from(scale: Scale) -> Self {
        Scaling {
            ops: scale.ops.into_iter().map(OpId::from).collect(),
            want: scale.want,
            before: if scale.was_paused {
                SlotsBefore::Paused(scale.before)
            } else {
                SlotsBefore::Slots(scale.before)
            },
            failures: scale.failures,
            failing: scale
                .failing
                .into_iter()
                .map(|(slot, deaths, why)| (slot, FailingSlot { deaths, why }))
                .collect(),
        }
    }
}
