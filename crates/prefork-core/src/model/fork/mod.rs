//! Two masters side by side, during an upgrade by fork: what they tell each other, and what each knows of the other.
//!
//! The old one has begotten the new one; both hold the same listeners. By itself (`--fork`) the service moves over one for one:
//!
//! ```text
//!           old                                    new
//! descends: yields slot 0      ◄──── ready 0 ───── ascends: fills its slots within --surge
//!           yields slot 1      ◄──── ready 1 ─────
//!           yields the rest    ◄──── all ready ───
//!           leaves when empty  ◄──── done ──────── (its probation is over)
//! ```
//!
//! When it goes back, for whatever reason, the same happens the other way round: the old one ascends and the new one descends. So there are never
//! fewer workers ready in both together than there were, and either may die at any moment: the other one then fills all slots by itself.
//!
//! With `--surge 0` whoever ascends first wants a slot, and fills it once the other has freed it. With `--manual` (USR2) nobody yields anything.

pub mod lifecycle;
pub mod slot_transfer;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Action, Generation, OpId};
use super::policy::{Policy, StopSeverity};
use super::signal::Signal;
use super::state::operation::Operations;
use super::state::readiness_memory::Memory;
use super::supervisor::Supervisor;

/// How long a new master may take until it stands.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// What one master tells the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "say", content = "of")]
pub enum PeerMessage {
    /// The new one stands; its pid.
    Hello(i32),
    /// A worker of this slot is ready here.
    Ready(u32),
    /// All slots are.
    AllReady,
    /// The new one has so many workers, for good: the old one may leave.
    Done(usize),
    /// It goes back, for this reason.
    Back(String),
    /// This slot is wanted, empty (`--surge 0`).
    Want(u32),
    /// It is.
    Free(u32),
    /// The service is to stop, this hard.
    Stop(StopSeverity),
    /// This generation's number is used.
    Used(Generation),
}

/// What happened to the other master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// Its process exists; its pid is a label.
    Born(i32),
    /// There is none, for this reason; nothing has changed.
    Unborn(String),
    /// It said something.
    Said(PeerMessage),
    /// It has ended; how, in words.
    Gone(String),
    /// It lives, and wants nothing of this one any more.
    Dropped,
}

impl PeerEvent {
    /// Whether it counts although the other master is dead by now: workers that it had ready are not any more, but what it wanted is to be known.
    pub fn outlives_its_master(&self) -> bool {
        matches!(
            self,
            PeerEvent::Said(PeerMessage::Back(_) | PeerMessage::Stop(_))
        )
    }
}

/// What is to be done about the other master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAction {
    /// Give the names away and start it. Answered by [`PeerEvent::Born`] or [`PeerEvent::Unborn`] in the same turn.
    Beget(Box<ForkState>),
    /// Tell it.
    Tell(PeerMessage),
    /// Kill it; [`PeerEvent::Gone`] follows.
    Kill,
    /// It is gone: take the pid file's and the control socket's names back.
    TakeNamesBack,
    /// It is gone: what it left of its names goes.
    RemoveOldNames,
    /// It is the service from now on.
    Succeeded,
    /// Hand on a signal that was kept for later.
    PassOn(Signal),
}

/// What the new master has to know of the old one's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkState {
    /// The operation.
    pub op: OpId,
    /// Whether both serve until one is told to quit.
    pub manual: bool,
    /// The generation that serves, and its settings.
    pub from: (Generation, Rc<Policy>),
    /// The new one's first.
    pub to: Generation,
    /// The number of slots, where it is another than the old one's command line says.
    pub scaled: Option<usize>,
    /// What was asked for so far, and what became of it.
    pub operations: Operations,
    /// Which commands' workers tell that they are ready.
    pub memory: Memory,
}

/// Which of the two this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    /// The one that was there.
    Old,
    /// The one that it has begotten.
    New,
}

/// What one master knows of the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) side: Side,
    pub(crate) manual: bool,
    pub(crate) op: OpId,
    pub(crate) pid: Option<i32>,
    /// It has said that it stands. Before that it has no workers.
    pub(crate) stands: bool,
    /// Both serve, and nothing is under way between them.
    pub(crate) settled: bool,
    /// The service was paused when it began: the old state.
    pub(crate) was_paused: bool,
    /// The other one has these slots.
    pub(crate) yielded: BTreeSet<u32>,
    /// It has all of them.
    pub(crate) yields_all: bool,
    /// This one may leave once its last worker is gone: the other has so many.
    pub(crate) may_leave: Option<usize>,
    /// What was told already.
    pub(crate) told_ready: BTreeSet<u32>,
    pub(crate) told_all: bool,
    pub(crate) told_done: bool,
    /// The slot that was asked for last, and those that were given (`--surge 0`).
    pub(crate) wanted: Option<u32>,
    pub(crate) granted: BTreeSet<u32>,
    /// The slots that the other one has said to have a worker for.
    pub(crate) heard_ready: BTreeSet<u32>,
    /// The slots that the other one asks for.
    pub(crate) owed: BTreeSet<u32>,
    /// The stop that both know of.
    pub(crate) stop: Option<StopSeverity>,
}

impl Beside {
    pub(crate) fn new(side: Side, manual: bool, op: OpId) -> Self {
        Beside {
            side,
            manual,
            op,
            pid: None,
            stands: side == Side::New,
            settled: false,
            was_paused: false,
            yielded: BTreeSet::new(),
            yields_all: false,
            may_leave: None,
            told_ready: BTreeSet::new(),
            told_all: false,
            told_done: false,
            wanted: None,
            granted: BTreeSet::new(),
            heard_ready: BTreeSet::new(),
            owed: BTreeSet::new(),
            stop: None,
        }
    }

    /// The way turns: nothing that was yielded, told or given so far holds.
    pub(crate) fn turn(&mut self) {
        *self = Beside {
            pid: self.pid,
            stands: self.stands,
            heard_ready: std::mem::take(&mut self.heard_ready),
            was_paused: self.was_paused,
            stop: self.stop,
            ..Beside::new(self.side, self.manual, self.op)
        };
    }

    /// How the other one is called.
    pub(crate) fn other(&self) -> String {
        let which = match self.side {
            Side::Old => "the new master",
            Side::New => "the old master",
        };
        match self.pid {
            Some(pid) => format!("{which} {pid}"),
            None => which.to_owned(),
        }
    }
}

impl Action {
    /// Something to be done about the other master.
    pub(crate) fn tell_other(told: PeerMessage) -> Action {
        Action::Beside(PeerAction::Tell(told))
    }
}

impl Supervisor {
    /// The supervisor of a new master beside the old one, process `old`. `slots`: as its own command line says.
    pub fn heir(policy: Rc<Policy>, slots: usize, seed: u64, old: i32, heir: ForkState) -> Self {
        let mut new = Supervisor::new(heir.scaled.unwrap_or(slots), policy, seed);
        new.configured = slots;
        let mut beside = Beside::new(Side::New, heir.manual, heir.op);
        beside.pid = Some(old);
        new.operations = heir.operations;
        new.memory = heir.memory;
        new.last_generation = heir.to.0.saturating_sub(1);
        new.previous = Some(heir.from);
        new.beside = Some(beside);
        new
    }

    /// How many slots the command line said that started the service.
    pub fn configured(&self) -> usize {
        self.configured
    }

    /// `master`, or during an upgrade by fork `old` or `new`.
    pub fn role(&self) -> &'static str {
        match self.beside.as_ref().map(|beside| beside.side) {
            None => "master",
            Some(Side::Old) => "old",
            Some(Side::New) => "new",
        }
    }
}
