//! What was asked for, and what became of it: the last operations. Who waits for one is the
//! driver's business.

use std::collections::VecDeque;
use std::fmt;

use super::ids::OpId;
use super::time::Time;

/// How many operations are remembered. A running one is never forgotten, so there may be more.
pub const REMEMBERED: usize = 100;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the verbs of pf-ctl are documented there")]
pub enum OperationKind {
    Start,
    Reload,
    Upgrade,
    Rollback,
    Scale,
    Stop,
    Pause,
    Resume,
    RestartWorker,
    Retire,
    Reopen,
    Signal,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [OperationKind; 12] = [
        OperationKind::Start,
        OperationKind::Reload,
        OperationKind::Upgrade,
        OperationKind::Rollback,
        OperationKind::Scale,
        OperationKind::Stop,
        OperationKind::Pause,
        OperationKind::Resume,
        OperationKind::RestartWorker,
        OperationKind::Retire,
        OperationKind::Reopen,
        OperationKind::Signal,
    ];

    /// The word in the status document, the log and messages.
    pub const fn name(self) -> &'static str {
        match self {
            OperationKind::Start => "start",
            OperationKind::Reload => "reload",
            OperationKind::Upgrade => "upgrade",
            OperationKind::Rollback => "rollback",
            OperationKind::Scale => "scale",
            OperationKind::Stop => "stop",
            OperationKind::Pause => "pause",
            OperationKind::Resume => "resume",
            OperationKind::RestartWorker => "restart-worker",
            OperationKind::Retire => "retire",
            OperationKind::Reopen => "reopen",
            OperationKind::Signal => "signal",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done: what was done, and the warnings.
    Done(String, Vec<String>),
    /// It failed; the old state holds.
    Failed(String),
    /// It was rolled back.
    RolledBack(String),
    /// A stop came between.
    Aborted(String),
}

impl Outcome {
    /// Done, without a warning.
    pub(crate) fn done(text: impl Into<String>) -> Outcome {
        Outcome::Done(text.into(), Vec::new())
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its number.
    pub op: OpId,
    /// What was asked for.
    pub kind: OperationKind,
    /// When it began.
    pub began: Time,
    /// When and how it ended; None while it runs.
    pub ended: Option<(Time, Outcome)>,
}

/// The memory of operations, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    last: u64,
    known: VecDeque<Operation>,
}

impl Operations {
    /// Operations that another image or master remembered; `last` is the last number that was used.
    pub fn remembered(last: u64, known: Vec<Operation>) -> Operations {
        let last = known.iter().map(|known| known.op.0).fold(last, u64::max);
        Operations {
            last,
            known: known.into(),
        }
    }

    /// The last number that was used.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// A new operation.
    pub(crate) fn begin(&mut self, now: Time, kind: OperationKind) -> OpId {
        self.last += 1;
        let op = OpId(self.last);
        // Only ended ones are forgotten: a running one is waited for.
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
        op
    }

    /// The end of an operation. False if it has ended before: an operation that was superseded ends
    /// once.
    pub(crate) fn end(&mut self, now: Time, op: OpId, outcome: Outcome) -> bool {
        let Some(known) = self.known.iter_mut().find(|known| known.op == op) else {
            return false;
        };
        let runs = known.ended.is_none();
        if runs {
            known.ended = Some((now, outcome));
        }
        runs
    }

    /// All that have ended, and `op`: what another master can answer for.
    pub(crate) fn known_to_new_master(&self, op: OpId) -> Operations {
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
