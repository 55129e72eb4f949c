//! The end of an upgrade by fork: one master is the service, and the other one leaves.
//!
//! The upgrade is done as any rollout is: all new workers are ready, and no old one accepts. Then
//! the old master hands the service over. It only drains from then on, and ends when its last
//! worker is gone; that holds up nothing but another upgrade by fork, as its names are taken. If
//! the new master dies while the old one drains, the old one is the service again.

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::ids::Generation;
use crate::model::operation::Outcome;
use crate::model::peer::{PeerAction, PeerMessage, PeerSide};
use crate::model::signal::Signal;
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::peer::Peer;
use crate::model::state::rollout::{Direction, Rollout, RolloutResult};
use crate::model::turn::Turn;

impl Supervisor {
    /// Why this master does nothing but drain, if so: the new one is the service.
    pub fn why_it_only_drains(&self) -> Option<String> {
        let peer = self
            .peer
            .as_ref()
            .filter(|peer| peer.side == PeerSide::Old)?;
        peer.handed_over?;
        let label = peer.label();
        Some(format!(
            "{label} is the service, and this one only drains: ask that one"
        ))
    }

    /// The generation that an old master beside this one serves from; None: there is none, or this
    /// master is the service by now.
    pub(crate) fn generation_of_old_master(&self) -> Option<Generation> {
        let peer = self.peer.as_ref()?;
        let is_beside = peer.side == PeerSide::New && peer.handed_over.is_none();
        let kept = self.releases.kept.last().filter(|_| is_beside)?;
        Some(kept.generation)
    }

    /// Whether the service manager is told about this master: not about a new one before it is the
    /// service.
    pub fn is_service(&self) -> bool {
        let not_yet = |peer: &Peer| peer.side == PeerSide::New && peer.handed_over.is_none();
        !self.peer.as_ref().is_some_and(not_yet)
    }

    /// The old master has left all slots to the new one, whose probation is over. Once no old
    /// worker accepts, the new one is to take the service. Until it says that it has, this one can
    /// have it back: the new one may have been stopped or frozen just now.
    pub(crate) fn settle_old_master(&mut self, turn: &mut Turn<'_>, workers: usize) {
        let is_offered = |peer: &Peer| peer.offered.is_some();
        if self.peer.as_ref().is_some_and(is_offered) {
            return;
        }
        if let Some(warnings) = self.await_rollout_release(turn, true, |_| true)
            && let Some(peer) = &mut self.peer
        {
            peer.offered = Some((workers, warnings));
            turn.send_to_peer(PeerMessage::Take);
        }
    }

    /// Why a rollback comes too late here: the new master may have the service already.
    pub(crate) fn why_no_way_back(&self) -> Option<String> {
        let peer = self.peer.as_ref().filter(|it| it.offered.is_some())?;
        let label = peer.label();
        Some(format!(
            "{label} is just taking the service over: ask that one"
        ))
    }

    /// The new master has the service: the upgrade is done.
    pub(crate) fn hand_over_to_new_master(&mut self, turn: &mut Turn<'_>) {
        let moves = |rollout: &mut Rollout| rollout.direction == Direction::Peer;
        let Some(peer) = &mut self.peer else { return };
        let Some((workers, warnings)) = peer.offered.take() else {
            return;
        };
        let Some(rollout) = self.rollout.take_if(moves) else {
            return;
        };
        peer.handed_over = Some(rollout.to);
        let peer = peer.label();
        let record = self.end_record(turn.now, &rollout, RolloutResult::Done, None);
        let done = Fact::ForkDone {
            to: rollout.to,
            workers,
            peer,
            took: record.took.unwrap_or_default(),
        };
        self.end_of_rollout();
        // The new master counts this rollout, and tells of it.
        let outcome = Outcome::Done(done.to_string(), warnings);
        turn.tell(done);
        turn.act(Action::Peer(PeerAction::Succeeded));
        let deferred = std::mem::take(&mut self.deferred);
        for (kept, signal) in [(deferred.hup, Signal::Hup), (deferred.winch, Signal::Winch)] {
            if kept {
                turn.act(Action::Peer(PeerAction::PassOn(signal)));
            }
        }
        // The new master has the number of slots that was asked for, and has all of them ready.
        for op in self.scaling.take().into_iter().flat_map(|it| it.ops) {
            let outcome = Outcome::done("the new master has the service");
            turn.end(&mut self.operations, op, outcome);
        }
        self.forget_pause_operation(turn);
        turn.end(&mut self.operations, rollout.op, outcome);
    }

    /// The old master ends when it has drained.
    pub(crate) fn settle_drained_master(&mut self, turn: &mut Turn<'_>) {
        if self.why_it_only_drains().is_some()
            && self.workers.is_empty()
            && self.retiring.is_empty()
            && self.leftovers_are_gone(turn)
        {
            self.mode = Mode::Over;
            turn.act(Action::Exit(0, None));
        }
    }

    /// The old master hands the service over: the rollout is done, and the generation that the old
    /// master served from is what this one can go back to.
    pub(crate) fn new_master_takes_over(&mut self, turn: &mut Turn<'_>) {
        let Some(peer) = &mut self.peer else { return };
        let Some(rollout) = &self.rollout else { return };
        if rollout.direction != Direction::Forward {
            // The old master has not yet read that this one goes back.
            return;
        }
        turn.send_to_peer(PeerMessage::Taken);
        peer.handed_over = Some(rollout.to);
        turn.act(Action::Peer(PeerAction::HandedOver));
        self.new_master_alone(turn);
        self.rollout_done(turn, Vec::new());
    }

    /// The new master has no worker any more. It ends once the old one says that it has the
    /// service: that may have been stopped or frozen just now.
    pub(crate) fn settle_new_master(&mut self, turn: &mut Turn<'_>) {
        let Some(peer) = &mut self.peer else { return };
        if !peer.answers {
            return self.new_master_leaves(turn);
        }
        if peer.offered.is_none() {
            peer.offered = Some((0, Vec::new()));
            turn.send_to_peer(PeerMessage::Take);
        }
    }

    /// The new master has given everything back.
    pub(crate) fn old_master_takes_back(&mut self, turn: &mut Turn<'_>) {
        let direction = self.rollout.as_ref().map(|rollout| &rollout.direction);
        if direction.is_some_and(Direction::is_back) {
            turn.send_to_peer(PeerMessage::Taken);
        }
    }

    /// The new master ends: the old one has the service again.
    pub(crate) fn new_master_leaves(&mut self, turn: &mut Turn<'_>) {
        let back = |rollout: &mut Rollout| rollout.direction.is_back();
        let Some(rollout) = self.rollout.take_if(back) else {
            return;
        };
        let Direction::Back(why, asked_by) = &rollout.direction else {
            return;
        };
        // The old master counts this.
        let error = Some(why.clone());
        self.end_record(turn.now, &rollout, RolloutResult::RolledBack, error);
        turn.end(
            &mut self.operations,
            rollout.op,
            Outcome::RolledBack(why.clone()),
        );
        for op in asked_by {
            let outcome = Outcome::done("rolled back: the old master serves");
            turn.end(&mut self.operations, *op, outcome);
        }
        for op in self.operations.running_here() {
            let why = format!("the upgrade was rolled back, and this with it: {why}");
            turn.end(&mut self.operations, op, Outcome::Failed(why));
        }
        self.mode = Mode::Over;
        let reason = format!("the upgrade was rolled back: {why}");
        turn.act(Action::Exit(1, Some(reason)));
    }
}
