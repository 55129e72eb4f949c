//! The last operations, as one image or master leaves them for another.

use serde::{Deserialize, Serialize};

use super::values::{KindName, Moment};
use crate::model::ids::MasterId;
use crate::model::operation::{Operation, Operations, Outcome};
use crate::wire::operation_id::OpWord;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    Done(String, Vec<String>),
    Failed(String),
    RolledBack(String),
    Aborted(String),
    Lost(String),
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> End {
        match outcome.clone() {
            Outcome::Done(text, warnings) => End::Done(text, warnings),
            Outcome::Failed(why) => End::Failed(why),
            Outcome::RolledBack(why) => End::RolledBack(why),
            Outcome::Aborted(why) => End::Aborted(why),
            Outcome::Lost(why) => End::Lost(why),
        }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Outcome {
        match end {
            End::Done(text, warnings) => Outcome::Done(text, warnings),
            End::Failed(why) => Outcome::Failed(why),
            End::RolledBack(why) => Outcome::RolledBack(why),
            End::Aborted(why) => Outcome::Aborted(why),
            End::Lost(why) => Outcome::Lost(why),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownOperation {
    op: OpWord,
    kind: KindName,
    began: Moment,
    ended: Option<(Moment, End)>,
}

/// The last operations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KnownOperations {
    #[serde(default)]
    master: u64,
    #[serde(default)]
    others: Vec<u64>,
    last: u64,
    known: Vec<KnownOperation>,
}

impl From<&Operations> for KnownOperations {
    fn from(operations: &Operations) -> Self {
        let known = |operation: &Operation| KnownOperation {
            op: operation.op.into(),
            kind: KindName(operation.kind),
            began: operation.began.into(),
            ended: operation
                .ended
                .as_ref()
                .map(|(at, outcome)| ((*at).into(), End::from(outcome))),
        };
        KnownOperations {
            master: operations.master().0,
            others: operations.others().iter().map(|known| known.0).collect(),
            last: operations.last(),
            known: operations.all().map(known).collect(),
        }
    }
}

impl From<KnownOperations> for Operations {
    fn from(operations: KnownOperations) -> Self {
        let known = |operation: KnownOperation| Operation {
            op: operation.op.into(),
            kind: operation.kind.0,
            began: operation.began.into(),
            ended: operation.ended.map(|(at, end)| (at.into(), end.into())),
        };
        let others = operations.others.into_iter().map(MasterId).collect();
        Operations::remembered(
            (MasterId(operations.master), others),
            operations.last,
            operations.known.into_iter().map(known).collect(),
        )
    }
}
