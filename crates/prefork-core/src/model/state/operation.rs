//! What was asked for, and what became of it: the last twenty operations, and who waits for them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::event::{Action, OpId, Outcome, Ticket};
use crate::model::time::Time;

/// How many operations are remembered.
pub const REMEMBERED: usize = 20;

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number.
    pub op: OpId,
    /// What was asked for.
    #[serde(with = "super::kept::word")]
    pub kind: super::kept::Constant,
    /// When it began.
    pub began: Time,
    /// How it ended, and when.
    pub ended: Option<(Time, Outcome)>,
}

/// The memory of operations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operations {
    last: u64,
    known: VecDeque<Operation>,
}

impl Operations {
    /// A new operation; whoever asked is told its number.
    pub fn begin(
        &mut self,
        now: Time,
        kind: &'static str,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) -> OpId {
        self.last += 1;
        let op = OpId(self.last);
        // Only ended ones are forgotten: a running one is somebody's to wait for.
        if self.known.len() >= REMEMBERED
            && let Some(oldest) = self.known.iter().position(|known| known.ended.is_some())
        {
            self.known.remove(oldest);
        }
        self.known.push_back(Operation {
            op,
            kind,
            began: now,
            ended: None,
        });
        if let Some(ticket) = ticket {
            out.push(Action::Began(ticket, op));
        }
        op
    }

    /// The end of an operation. It ends once: a second end (an operation that was superseded) is not told.
    pub fn end(&mut self, now: Time, op: OpId, outcome: Outcome, out: &mut Vec<Action>) {
        let Some(known) = self.known.iter_mut().find(|known| known.op == op) else {
            return;
        };
        if known.ended.is_none() {
            known.ended = Some((now, outcome.clone()));
            out.push(Action::Finished(op, outcome));
        }
    }

    /// All that have ended, and `op`: what another master can answer for.
    pub fn handed_over(&self, op: OpId) -> Operations {
        let known = |known: &&Operation| known.ended.is_some() || known.op == op;
        Operations {
            last: self.last,
            known: self.known.iter().filter(known).cloned().collect(),
        }
    }

    /// An operation by its number.
    pub fn get(&self, op: OpId) -> Option<&Operation> {
        self.known.iter().find(|known| known.op == op)
    }

    /// All that are remembered, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Operation> {
        self.known.iter()
    }

    /// Those that still run.
    pub fn running(&self) -> impl Iterator<Item = &Operation> {
        self.known.iter().filter(|known| known.ended.is_none())
    }
}
