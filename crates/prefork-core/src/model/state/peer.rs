//! What one master knows of the other, during an upgrade by fork.

use std::collections::BTreeSet;

use crate::model::counters::Counters;
use crate::model::ids::{Generation, OpId};
use crate::model::peer::{PeerLabel, PeerSide};
use crate::model::policy::StopSeverity;
use crate::model::time::Time;

/// What one master knows of the other.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) side: PeerSide,
    pub(crate) manual: bool,
    /// The new master's first generation is a copy of the one that serves: the new master's memory.
    pub(crate) is_copy: bool,
    pub(crate) op: OpId,
    pub(crate) pid: Option<i32>,
    /// It has said that it is up. Before that it has no workers.
    pub(crate) is_up: bool,
    /// Both masters serve, and nothing is under way between them.
    pub(crate) settled: bool,
    /// The service was paused when it began: the old master's memory.
    pub(crate) was_paused: bool,
    /// The slots that this master has left to the other.
    pub(crate) given_up: BTreeSet<u32>,
    /// All of them.
    pub(crate) gave_up_all: bool,
    /// This master may leave once its last worker is gone: the other has this many.
    pub(crate) may_leave: Option<usize>,
    /// What this master has announced already: slots with a ready worker, all of them, the end.
    pub(crate) announced_ready: BTreeSet<u32>,
    pub(crate) announced_all: bool,
    pub(crate) announced_done: bool,
    /// The slot that this master requested last, and those that the other has freed (`--surge 0`).
    pub(crate) requested: Option<u32>,
    pub(crate) freed_by_peer: BTreeSet<u32>,
    /// The slots for which the other master has announced a ready worker.
    pub(crate) peer_ready: BTreeSet<u32>,
    /// The slots that the other master requests.
    pub(crate) requested_by_peer: BTreeSet<u32>,
    /// The hardest stop that both masters know of.
    pub(crate) stop: Option<StopSeverity>,
    /// This master has told the other one to stop: it ends after it, so that the service has ended
    /// when this master has.
    pub(crate) told_to_stop: bool,
    /// The other master has told this one to stop.
    pub(crate) was_told_to_stop: bool,
    /// The other master answers when it is asked; an older version does not.
    pub(crate) answers: bool,
    /// An answer, or its hello, is awaited until then.
    pub(crate) answer_by: Option<Time>,
    /// This master has offered the service to the other one, which has this many workers; the
    /// warnings for the client that asked.
    pub(crate) offered: Option<(usize, Vec<String>)>,
    /// The upgrade is done, to this generation: the new master is the service, and the old one only
    /// drains.
    pub(crate) handed_over: Option<Generation>,
    /// The totals when the upgrade began: both masters count on from there.
    pub(crate) counters_at_fork: Counters,
    /// What the other master has told of its own since, which is in this master's totals.
    pub(crate) counters_told: Counters,
}

impl Peer {
    pub(crate) fn new(side: PeerSide, manual: bool, op: OpId) -> Self {
        Peer {
            side,
            manual,
            is_copy: false,
            op,
            pid: None,
            is_up: side == PeerSide::New,
            settled: false,
            was_paused: false,
            given_up: BTreeSet::new(),
            gave_up_all: false,
            may_leave: None,
            announced_ready: BTreeSet::new(),
            announced_all: false,
            announced_done: false,
            requested: None,
            freed_by_peer: BTreeSet::new(),
            peer_ready: BTreeSet::new(),
            requested_by_peer: BTreeSet::new(),
            stop: None,
            told_to_stop: false,
            was_told_to_stop: false,
            answers: true,
            answer_by: None,
            offered: None,
            handed_over: None,
            counters_at_fork: Counters::default(),
            counters_told: Counters::default(),
        }
    }

    /// The upgrade turns back: nothing that was given up, announced or freed so far holds.
    pub(crate) fn turn_back(&mut self) {
        *self = Peer {
            pid: self.pid,
            is_copy: self.is_copy,
            is_up: self.is_up,
            peer_ready: std::mem::take(&mut self.peer_ready),
            was_paused: self.was_paused,
            stop: self.stop,
            told_to_stop: self.told_to_stop,
            was_told_to_stop: self.was_told_to_stop,
            answers: self.answers,
            answer_by: self.answer_by,
            counters_at_fork: self.counters_at_fork,
            counters_told: self.counters_told,
            ..Peer::new(self.side, self.manual, self.op)
        };
    }

    /// The other master, as messages name it.
    pub(crate) fn label(&self) -> PeerLabel {
        PeerLabel {
            own_side: self.side,
            pid: self.pid,
        }
    }
}
