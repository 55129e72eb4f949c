//! What was asked for, and what became of it: the last operations. Who waits for one is the
//! driver's business.

use std::collections::VecDeque;
use std::fmt;

use super::ids::{MasterId, OpId};
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
    AddFds,
    RemoveListener,
}

impl OperationKind {
    /// Every kind.
    pub const ALL: [OperationKind; 14] = [
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
        OperationKind::AddFds,
        OperationKind::RemoveListener,
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
            OperationKind::AddFds => "add-fds",
            OperationKind::RemoveListener => "remove-listener",
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
    /// The master that it was asked of died, so how it would have ended is not known.
    Lost(String),
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
    /// Which one.
    pub op: OpId,
    /// What was asked for.
    pub kind: OperationKind,
    /// When it began.
    pub began: Time,
    /// When and how it ended; None while it runs.
    pub ended: Option<(Time, Outcome)>,
}

/// How many masters before this one are remembered, for operations that are forgotten.
const MASTERS: usize = 100;

/// The memory of operations, oldest first. Those of another master are in it too: of one that was
/// upgraded by fork, and of the one beside this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operations {
    /// The master whose memory this is.
    master: MasterId,
    /// The other masters whose operations are, or were, remembered here.
    others: Vec<MasterId>,
    last: u64,
    known: VecDeque<Operation>,
    /// While there is another master, it is told of every operation but this one, the upgrade,
    /// which each of the two ends by itself.
    shared_except: Option<OpId>,
}

impl Operations {
    /// Operations that another image or master remembered; `last` is the last number that was used.
    pub fn remembered(
        (master, others): (MasterId, Vec<MasterId>),
        last: u64,
        known: Vec<Operation>,
    ) -> Operations {
        let last = known
            .iter()
            .map(|known| known.op.number)
            .fold(last, u64::max);
        Operations {
            master,
            others,
            last,
            known: known.into(),
            shared_except: None,
        }
    }

    /// The last number that was used.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The master whose memory this is.
    pub fn master(&self) -> MasterId {
        self.master
    }

    /// The other masters whose operations are, or were, remembered here.
    pub fn others(&self) -> &[MasterId] {
        &self.others
    }

    /// From now on this is the memory of this master.
    pub(crate) fn belong_to(&mut self, MasterId(mut id): MasterId) {
        if self.last > 0 {
            self.remember_master(self.master);
        }
        // Two masters that were started at the same moment may have drawn the same one.
        while self.others.contains(&MasterId(id)) {
            id += 1;
        }
        self.master = MasterId(id);
    }

    fn remember_master(&mut self, master: MasterId) {
        if !self.others.contains(&master) {
            self.others.push(master);
        }
        if self.others.len() > MASTERS {
            self.others.remove(0);
        }
    }

    /// The other master is told of all operations but this one, or of none any more.
    pub(crate) fn share_except(&mut self, upgrade: Option<OpId>) {
        self.shared_except = upgrade;
    }

    /// Whether the other master is to be told of this operation.
    pub(crate) fn is_shared(&self, op: OpId) -> bool {
        self.shared_except.is_some_and(|upgrade| upgrade != op)
    }

    /// The operation that would be begun next.
    pub(crate) fn next(&self) -> OpId {
        OpId {
            master: self.master,
            number: self.last + 1,
        }
    }

    /// A new operation.
    pub(crate) fn begin(&mut self, now: Time, kind: OperationKind) -> OpId {
        let op = self.next();
        self.last = op.number;
        self.remember(now, op, kind);
        op
    }

    /// The other master has begun an operation.
    pub(crate) fn learn(&mut self, now: Time, op: OpId, kind: OperationKind) {
        self.remember_master(op.master);
        if self.get(op).is_none() {
            self.remember(now, op, kind);
        }
    }

    fn remember(&mut self, now: Time, op: OpId, kind: OperationKind) {
        // Only ended ones are forgotten: a running one is waited for.
        while self.known.len() >= REMEMBERED
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

    /// An operation that is remembered.
    pub fn get(&self, op: OpId) -> Option<&Operation> {
        self.known.iter().find(|known| known.op == op)
    }

    /// Whether an operation that is not remembered is one of a master that died with it: of no
    /// master whose operations are told to this one.
    pub fn is_of_dead_master(&self, op: OpId) -> bool {
        op.master != MasterId::default()
            && op.master != self.master
            && !self.others.contains(&op.master)
    }

    /// All that are remembered, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Operation> {
        self.known.iter()
    }

    /// Those that still run.
    pub fn running(&self) -> impl Iterator<Item = &Operation> {
        self.known.iter().filter(|known| known.ended.is_none())
    }

    /// Those of another master that still run.
    pub(crate) fn running_elsewhere(&self) -> Vec<(OpId, OperationKind)> {
        self.running()
            .filter(|known| known.op.master != self.master)
            .filter(|known| self.shared_except != Some(known.op))
            .map(|known| (known.op, known.kind))
            .collect()
    }

    /// Those of this master that still run.
    pub(crate) fn running_here(&self) -> Vec<OpId> {
        self.running()
            .filter(|known| known.op.master == self.master)
            .map(|known| known.op)
            .collect()
    }
}
