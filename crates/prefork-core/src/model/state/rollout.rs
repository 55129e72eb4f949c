//! A rollout under way, and what became of the last one.

use std::rc::Rc;
use std::time::Duration;

use crate::model::ids::{Generation, OpId, WorkerId};
use crate::model::operation::OperationKind;
use crate::model::policy::Policy;
pub use crate::model::releases::RolloutResult;
use crate::model::releases::listener_change::ListenerChange;
use crate::model::time::Time;

/// A new generation that the driver was told to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinning {
    /// The operation.
    pub op: OpId,
    /// What asked for it.
    pub kind: OperationKind,
    /// The generation.
    pub to: Generation,
    /// It is a copy of the generation that serves, and so of its release.
    pub is_copy: bool,
}

/// Which way a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the new generation.
    Forward,
    /// To the new generation, in another master beside this one.
    Peer,
    /// Back to the old generation, for this reason; and the operations that asked for that.
    Back(String, Vec<OpId>),
}

impl Direction {
    /// Whether the rollout is being undone.
    pub(crate) fn is_back(&self) -> bool {
        match self {
            Direction::Back(..) => true,
            Direction::Forward | Direction::Peer => false,
        }
    }
}

/// A rollout's probation, begun.
#[derive(Debug, Clone)]
pub(crate) struct Probation {
    pub(crate) until: Time,
    pub(crate) warnings: Vec<String>,
}

/// A rollout under way.
#[derive(Debug, Clone)]
pub(crate) struct Rollout {
    pub(crate) op: OpId,
    pub(crate) kind: OperationKind,
    pub(crate) from: Option<Generation>,
    pub(crate) to: Generation,
    pub(crate) policy: Rc<Policy>,
    pub(crate) direction: Direction,
    pub(crate) canary_passed: bool,
    /// The canary that has passed: as long as the rollout runs, its death ends it.
    pub(crate) canary: Option<WorkerId>,
    pub(crate) began: Time,
    /// Failed starts, and deaths of new workers.
    pub(crate) failures: u32,
    /// Since when every slot's worker is ready, and only old workers' listeners are waited for.
    pub(crate) all_ready_at: Option<Time>,
    pub(crate) probation: Option<Probation>,
    pub(crate) listeners: ListenerChange,
}

/// Whether a wait for workers to release the listeners is over.
pub(crate) enum Release {
    /// Some worker may still accept.
    Waiting,
    /// None does, or the time is over; the warnings.
    Over(Vec<String>),
}

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its operation.
    pub op: OpId,
    /// What asked for it.
    pub kind: OperationKind,
    /// The generation that served before; None for the first rollout.
    pub from: Option<Generation>,
    /// The generation that it rolled to.
    pub to: Generation,
    /// How far it has come.
    pub result: RolloutResult,
    /// Why it was not done.
    pub error: Option<String>,
    /// How long it took; None while it runs.
    pub took: Option<Duration>,
}

impl Rollout {
    /// A rollout that goes forward from now on. `replaces`: whether there are workers of an older
    /// generation to lose.
    pub(crate) fn new(
        pinning: Pinning,
        (from, replaces): (Option<Generation>, bool),
        policy: Rc<Policy>,
        now: Time,
    ) -> Rollout {
        let is_newer = pinning.kind != OperationKind::Rollback;
        Rollout {
            op: pinning.op,
            kind: pinning.kind,
            from,
            to: pinning.to,
            canary_passed: !policy.canary.is_wanted(replaces && is_newer),
            canary: None,
            policy,
            direction: Direction::Forward,
            began: now,
            failures: 0,
            all_ready_at: None,
            probation: None,
            listeners: ListenerChange::default(),
        }
    }

    /// The record of a rollout that has ended.
    pub(crate) fn record(
        &self,
        now: Time,
        result: RolloutResult,
        error: Option<String>,
    ) -> RolloutRecord {
        RolloutRecord {
            op: self.op,
            kind: self.kind,
            from: self.from,
            to: self.to,
            result,
            error,
            took: Some(now.since(self.began)),
        }
    }

    /// The record of a running rollout.
    pub(crate) fn running(&self) -> RolloutRecord {
        let error = match &self.direction {
            Direction::Forward | Direction::Peer => None,
            Direction::Back(why, _) => Some(why.clone()),
        };
        RolloutRecord {
            took: None,
            ..self.record(self.began, RolloutResult::Running, error)
        }
    }

    /// Whether it has every slot, and only its probation is waited for.
    pub(crate) fn on_probation(&self) -> bool {
        self.probation.is_some() && self.direction == Direction::Forward
    }

    /// How long its new workers are on probation after it; None: not at all.
    pub(crate) fn trial(&self) -> Option<Duration> {
        // Beside an old master there is one to go back to.
        let has_older = self.from.is_some() || self.kind == OperationKind::Upgrade;
        let undoable = has_older
            && self.kind != OperationKind::Rollback
            && self.direction == Direction::Forward;
        self.policy.probation.filter(|_| undoable)
    }
}
