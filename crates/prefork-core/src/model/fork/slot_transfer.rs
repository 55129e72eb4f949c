//! Which slots are whose while two masters serve: one gives up slots, the other takes them.

use crate::model::action::Action;
use crate::model::fact::reasons::StopReason;
use crate::model::peer::{PeerAction, PeerMessage, PeerSide};
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::peer::Peer;
use crate::model::state::rollout::Direction;
use crate::model::state::workers::WorkerSet;
use crate::model::turn::Turn;

/// What a master does while the service moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransferRole {
    /// It takes slots.
    TakesSlots,
    /// It gives slots up.
    GivesSlots,
    /// Neither: no slot changes its master.
    Still,
}

impl Supervisor {
    fn transfer_role(&self) -> TransferRole {
        let (Some(peer), Some(rollout)) = (&self.peer, &self.rollout) else {
            return TransferRole::Still;
        };
        if peer.settled || peer.manual || peer.handed_over.is_some() {
            return TransferRole::Still;
        }
        match (peer.side, &rollout.direction) {
            (PeerSide::Old, Direction::Peer) | (PeerSide::New, Direction::Back(..)) => {
                TransferRole::GivesSlots
            }
            (PeerSide::Old, Direction::Back(..)) | (PeerSide::New, Direction::Forward) => {
                TransferRole::TakesSlots
            }
            (PeerSide::Old, Direction::Forward) | (PeerSide::New, Direction::Peer) => {
                TransferRole::Still
            }
        }
    }

    /// The surge of the rollout by which this master takes slots.
    fn transfer_surge(&self) -> usize {
        let rollout = self.rollout.as_ref();
        let policy = rollout.map_or(&self.policy, |rollout| &rollout.policy);
        policy.surge.of(self.slots.len())
    }

    /// How many workers may be started now besides those that start already: a new master starts no
    /// more at once than a rollout would.
    pub(crate) fn start_room_beside_peer(&self) -> usize {
        let new = |peer: &Peer| peer.side == PeerSide::New;
        if !self.peer.as_ref().is_some_and(new) || self.transfer_role() != TransferRole::TakesSlots
        {
            return usize::MAX;
        }
        let starting = self.workers.count(WorkerSet::Starting);
        self.transfer_surge().max(1).saturating_sub(starting)
    }

    /// Whether no worker may be started in this slot because of the other master.
    pub(crate) fn peer_owns_slot(&self, index: usize) -> bool {
        let Some(peer) = &self.peer else {
            return false;
        };
        if peer.side == PeerSide::Old && peer.handed_over.is_some() {
            return true;
        }
        let slot = index as u32;
        match self.transfer_role() {
            TransferRole::Still => false,
            TransferRole::GivesSlots => peer.gave_up_all || peer.given_up.contains(&slot),
            TransferRole::TakesSlots => {
                self.transfer_surge() == 0 && !peer.freed_by_peer.contains(&slot)
            }
        }
    }

    /// The other master has a worker for this slot, or requests it.
    pub(crate) fn give_up_slot(&mut self, turn: &mut Turn<'_>, slot: u32) {
        if self.transfer_role() != TransferRole::GivesSlots {
            return;
        }
        let slots = self.slots.len();
        let Some(peer) = &mut self.peer else {
            return;
        };
        if !peer.given_up.insert(slot) {
            return;
        }
        let (op, done, other) = (peer.op, peer.given_up.len().min(slots), peer.label());
        let text = format!("slot {slot} is left to {other}");
        turn.progress(op, done, slots, text);
        let Some(slot) = self.slots.get_mut(slot as usize) else {
            return;
        };
        slot.rests_until = None;
        for id in slot.take_workers() {
            self.request_stop(turn, id, StopSeverity::Graceful, StopReason::OtherMaster);
        }
    }

    /// The other master has all of its slots ready, however many they are.
    pub(crate) fn give_up_all_slots(&mut self, turn: &mut Turn<'_>) {
        if self.transfer_role() != TransferRole::GivesSlots {
            return;
        }
        for slot in 0..self.slots.len() {
            self.give_up_slot(turn, slot as u32);
        }
        if let Some(peer) = &mut self.peer {
            peer.gave_up_all = true;
            if peer.side == PeerSide::New {
                // The way back has no probation.
                peer.may_leave = Some(0);
            }
        }
    }

    /// The next steps of the service's move from one master to the other.
    pub(crate) fn settle_transfer(&mut self, turn: &mut Turn<'_>) {
        if self.peer.is_none() {
            if self.mode.is_paused() {
                self.end_failed_upgrade_of_paused(turn);
            }
            return;
        }
        self.free_requested_slots(turn);
        match self.transfer_role() {
            TransferRole::Still => {}
            TransferRole::TakesSlots => self.announce_ready_slots(turn),
            TransferRole::GivesSlots => {
                let peer = self.peer.as_ref();
                let all = peer.filter(|peer| peer.gave_up_all);
                match all.and_then(|peer| peer.may_leave.map(|n| (peer.side, n))) {
                    Some((PeerSide::Old, workers)) => self.settle_old_master(turn, workers),
                    Some((PeerSide::New, _))
                        if self.workers.is_empty() && self.leftovers_are_gone(turn) =>
                    {
                        self.settle_new_master(turn)
                    }
                    Some((PeerSide::New, _)) | None => {}
                }
            }
        }
        self.settle_drained_master(turn);
    }

    /// The upgrade of a paused service has failed: it is paused as before, and there is no worker
    /// to wait for.
    fn end_failed_upgrade_of_paused(&mut self, turn: &mut Turn<'_>) {
        let rollout = self.rollout.as_ref();
        if rollout.is_some_and(|rollout| rollout.direction.is_back()) {
            self.rolled_back(turn, Vec::new());
        }
    }

    fn free_requested_slots(&mut self, turn: &mut Turn<'_>) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        let workers = &self.workers;
        peer.requested_by_peer.retain(|slot| {
            let busy = workers.has_any(WorkerSet::OfSlot(*slot));
            if !busy {
                turn.send_to_peer(PeerMessage::Free(*slot));
            }
            busy
        });
    }

    /// Whether this slot has the worker that it is to have in the end.
    fn slot_is_settled(&self, index: usize) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let back = rollout.direction.is_back();
        let of_ours = self
            .slots
            .get(index)
            .and_then(|slot| self.worker(slot.current))
            .is_some_and(|worker| worker.is_ready() && (worker.generation == rollout.to) != back);
        of_ours || (back && self.cannot_roll_back(index))
    }

    /// Tells the other master which slots it can give up.
    fn announce_ready_slots(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = &self.rollout else { return };
        let slots = self.slots.len();
        let surge = self.transfer_surge();
        let past = rollout.canary_passed || rollout.direction != Direction::Forward;
        let paused = self.mode.is_paused();
        let settled: Vec<u32> = (0..slots)
            .filter(|index| self.slot_is_settled(*index))
            .map(|index| index as u32)
            .collect();
        let all = past && (paused || settled.len() == slots);
        let next = (surge == 0 && !all)
            .then(|| self.next_slot_to_request())
            .flatten();
        let Some(peer) = &mut self.peer else {
            return;
        };
        // `--surge 100%`: no old worker is told anything before all new ones are ready.
        if past && (surge < slots || all) {
            for slot in settled {
                if peer.announced_ready.insert(slot) {
                    turn.send_to_peer(PeerMessage::Ready(slot));
                }
            }
        }
        if all && !std::mem::replace(&mut peer.announced_all, true) {
            turn.send_to_peer(PeerMessage::AllReady);
        }
        if let Some(slot) = next {
            peer.requested = Some(slot);
            turn.send_to_peer(PeerMessage::Want(slot));
        }
    }

    /// `--surge 0`: the slot to request, once the one before has its worker.
    fn next_slot_to_request(&self) -> Option<u32> {
        let peer = self.peer.as_ref()?;
        let rollout = self.rollout.as_ref()?;
        if peer
            .requested
            .is_some_and(|slot| !self.slot_is_settled(slot as usize))
        {
            return None;
        }
        let reach = if rollout.canary_passed || rollout.direction != Direction::Forward {
            self.slots.len()
        } else {
            1
        };
        let free = |index: &usize| {
            self.slots
                .get(*index)
                .is_some_and(|slot| slot.current.is_none())
                && !peer.freed_by_peer.contains(&(*index as u32))
        };
        let mut free: Vec<u32> = (0..reach.min(self.slots.len()))
            .filter(free)
            .map(|index| index as u32)
            .collect();
        // On the way back: first the slots without a ready worker, as that is where it failed.
        free.sort_by_key(|slot| peer.peer_ready.contains(slot));
        free.first().copied()
    }

    /// A new master's rollout is done when the old one has left: the old one is told that it may.
    pub(crate) fn awaits_old_master_exit(&mut self, turn: &mut Turn<'_>) -> bool {
        let slots = self.slots.len();
        let Some(peer) = &mut self.peer else {
            return false;
        };
        if peer.side == PeerSide::Old || peer.settled || peer.handed_over.is_some() {
            return false;
        }
        if !std::mem::replace(&mut peer.announced_done, true) {
            turn.send_to_peer(PeerMessage::Done(slots));
        }
        peer.settled = peer.manual;
        !peer.settled
    }

    /// An old master that turned back has its names again only when the new one is gone.
    pub(crate) fn awaits_new_master_exit(&self) -> bool {
        let waits = |peer: &Peer| peer.side == PeerSide::Old && !peer.settled;
        self.peer.as_ref().is_some_and(waits)
    }

    /// A stop while the service moves stops both masters: it is one service. With `--manual` they
    /// are two. Whether the service ends with this master, and the other one has not told of it.
    pub(crate) fn stop_peer_too(
        &mut self,
        turn: &mut Turn<'_>,
        severity: StopSeverity,
        reason: Option<&str>,
    ) -> bool {
        let Some(peer) = &mut self.peer else {
            return true;
        };
        if peer.side == PeerSide::Old && peer.handed_over.is_some() {
            // The service is the new master's.
            return false;
        }
        if peer.settled || peer.manual {
            // A stop of the old master commits to the new one; a stop of the new one backs out.
            if peer.side == PeerSide::Old && peer.stop.is_none() && peer.is_up {
                turn.act(Action::Peer(PeerAction::Succeeded));
            }
            peer.stop = peer.stop.max(Some(severity));
            return false;
        }
        if !peer.is_up {
            // It has no worker to end yet, and a new master that hangs would never read the
            // message.
            peer.stop = peer.stop.max(Some(severity));
            turn.act(Action::Peer(PeerAction::Kill));
            return true;
        }
        if let Some(why) = reason {
            // A new master that gives up leaves the service to the old one.
            if peer.side == PeerSide::New && peer.handed_over.is_none() {
                turn.send_to_peer(PeerMessage::Back(why.to_owned()));
            }
            // And if it was the service already, the old one is that again: no end of the service.
            return false;
        }
        if peer.stop.is_none_or(|known| known < severity) {
            peer.stop = Some(severity);
            peer.told_to_stop = true;
            turn.send_to_peer(PeerMessage::Stop(severity));
        }
        !peer.was_told_to_stop
    }

    /// Whether this is the old one of two masters that both serve until one is told to quit.
    pub(crate) fn is_old_master_beside_settled(&self) -> bool {
        let both = |peer: &Peer| peer.settled || peer.manual;
        let old = |peer: &&Peer| peer.side == PeerSide::Old && peer.handed_over.is_none();
        self.peer.as_ref().filter(old).is_some_and(both)
    }

    /// An old master that ends waits until it is known whether there is a new one: until that one
    /// is up or dead.
    pub(crate) fn awaits_new_master_start(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| !peer.is_up)
    }

    /// A service that stops while there are two masters has ended when both have. The one that was
    /// asked waits for the other; if both were asked, the new one waits.
    pub(crate) fn outlives_peer(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            peer.told_to_stop && !(peer.side == PeerSide::Old && peer.was_told_to_stop)
        })
    }
}
