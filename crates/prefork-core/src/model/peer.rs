//! What two masters tell each other during an upgrade by fork. [`fork`](super::fork) decides; this
//! is its vocabulary.

use std::fmt;
use std::time::Duration;

use super::counters::{Counters, SlotTotals};
use super::ids::{Generation, OpId};
use super::operation::{OperationKind, Operations, Outcome};
use super::policy::StopSeverity;
use super::readiness_memory::ReadinessMemory;
use super::releases::Releases;
use super::signal::Signal;

/// How long a new master may take until it says that it is up.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long after the other master's last message it is asked whether it still answers.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// How long it may take to answer. One that takes longer is ended.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A master that is this late to look at a deadline of the other one was itself stopped or starved:
/// the other's answer may not be read yet, so its time counts anew.
pub const LATE: Duration = Duration::from_secs(1);

/// Which of the two masters this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerSide {
    /// The one that was there.
    Old,
    /// The one that the old master has started.
    New,
}

/// The other master, as messages name it: `the new master 4711`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerLabel {
    /// Which side the *speaker* is on.
    pub own_side: PeerSide,
    /// The other master's pid, once it is known.
    pub pid: Option<i32>,
}

impl fmt::Display for PeerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = match self.own_side {
            PeerSide::Old => "the new master",
            PeerSide::New => "the old master",
        };
        match self.pid {
            Some(pid) => write!(f, "{which} {pid}"),
            None => f.write_str(which),
        }
    }
}

/// What one master tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    /// The new master is up; its pid.
    Hello(i32),
    /// A worker of this slot is ready in the sending master.
    Ready(u32),
    /// All slots are ready in the sending master.
    AllReady,
    /// The new master's rollout is done with this many workers: the old one may leave.
    Done(usize),
    /// The sending master goes back, for this reason.
    Back(String),
    /// The sending master wants this slot to be empty (`--surge 0`).
    Want(u32),
    /// This slot is empty (`--surge 0`).
    Free(u32),
    /// The service is to stop, this hard.
    Stop(StopSeverity),
    /// The sending master has used this generation's number.
    Used(Generation),
    /// Asks for [`PeerMessage::Alive`].
    Ask,
    /// The sending master works.
    Alive,
    /// The receiving master is to be the service, and the sending one to drain.
    Take,
    /// So it is: the sending master is the service from now on.
    Taken,
    /// The sending master has begun this operation.
    Began(OpId, OperationKind),
    /// An operation of the sending master has ended so.
    Ended(OpId, OperationKind, Outcome),
    /// What the sending master has counted itself since the upgrade began.
    Counted(Box<Counters>),
}

/// What happened to the other master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// Its process exists; the pid is a label.
    Started(i32),
    /// There is no other master, for this reason, and nothing has changed.
    NotStarted(String),
    /// It sent a message.
    Said(PeerMessage),
    /// It has ended; how, in words.
    Exited(String),
    /// It lives, and nothing comes or goes over the link to it any more, for this reason.
    LinkLost(String),
}

impl PeerEvent {
    /// Whether the event counts although the other master is dead by now. What it reported about
    /// its workers does not hold any more; what it wanted of the service does.
    pub fn outlives_its_master(&self) -> bool {
        match self {
            PeerEvent::Said(
                PeerMessage::Back(_)
                | PeerMessage::Stop(_)
                | PeerMessage::Used(_)
                | PeerMessage::Take
                | PeerMessage::Began(..)
                | PeerMessage::Ended(..)
                | PeerMessage::Counted(_),
            ) => true,
            PeerEvent::Said(
                PeerMessage::Hello(_)
                | PeerMessage::Ready(_)
                | PeerMessage::AllReady
                | PeerMessage::Done(_)
                | PeerMessage::Want(_)
                | PeerMessage::Free(_)
                | PeerMessage::Taken
                | PeerMessage::Ask
                | PeerMessage::Alive,
            )
            | PeerEvent::Started(_)
            | PeerEvent::NotStarted(_)
            | PeerEvent::Exited(_)
            | PeerEvent::LinkLost(_) => false,
        }
    }
}

/// What is to be done about the other master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerAction {
    /// Give the names away and start a new master. Answered by [`PeerEvent::Started`] or
    /// [`PeerEvent::NotStarted`] in the same turn.
    StartMaster(Box<ForkState>),
    /// Send a message.
    Tell(PeerMessage),
    /// Kill it; [`PeerEvent::Exited`] follows.
    Kill,
    /// It is gone: take the names of pid file and control socket back.
    TakeNamesBack,
    /// It is gone: remove the names that it left.
    RemoveOldNames,
    /// It is the service from now on: the service manager is told.
    Succeeded,
    /// This master is the service from now on: the service manager was told so by the other.
    HandedOver,
    /// Pass on a signal that was deferred.
    PassOn(Signal),
}

/// What the new master has to know of the old one's model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkState {
    /// The operation.
    pub op: OpId,
    /// Whether both masters serve until one is told to quit.
    pub manual: bool,
    /// The new master's first generation is a copy of the one that serves.
    pub is_copy: bool,
    /// The generation that serves.
    pub from: Generation,
    /// The generations so far; of the releases that are kept, the one that serves is the last.
    pub releases: Releases,
    /// The new master's first generation.
    pub to: Generation,
    /// The number of slots, where it differs from the old master's command line.
    pub scaled: Option<usize>,
    /// The operations so far.
    pub operations: Operations,
    /// Which commands' workers notify that they are ready.
    pub readiness_memory: ReadinessMemory,
    /// The old master answers [`PeerMessage::Ask`], and says [`PeerMessage::Take`].
    pub answers: bool,
    /// The totals.
    pub counters: Counters,
    /// What the slots keep for good, from 0 on.
    pub slots: Vec<SlotTotals>,
}
