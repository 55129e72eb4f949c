//! Whether the other master still answers, and what becomes of it and of its operations if it does
//! not.
//!
//! Neither master believes the other gone because it is silent: a master that is silent for too
//! long is ended, and gone when the kernel says so.

use std::time::Duration;

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::fact::text::human;
use crate::model::ids::OpId;
use crate::model::operation::{OperationKind, Outcome};
use crate::model::peer::{ANSWER_WITHIN, ASK_AFTER, LATE, PeerAction, PeerMessage, PeerSide};
use crate::model::state::Supervisor;
use crate::model::state::peer::Peer;
use crate::model::state::rollout::Direction;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    /// The other master has said something: it is asked again only after a while.
    pub(crate) fn peer_answered(&mut self, now: Time) {
        let Some(peer) = &mut self.peer else { return };
        if peer.is_up && peer.answers {
            peer.answer_by = None;
            self.timers.set(Timer::Answer, now + ASK_AFTER);
        }
    }

    /// Whether this master is itself late to look at the other's deadline: then that counts anew.
    pub(crate) fn was_late_for_peer(
        &mut self,
        turn: &Turn<'_>,
        timer: Timer,
        within: Duration,
    ) -> bool {
        let Some(peer) = &mut self.peer else {
            return false;
        };
        let late = peer.answer_by.is_some_and(|by| turn.now.since(by) > LATE);
        if late {
            peer.answer_by = Some(turn.now + within);
            self.timers.set(timer, turn.now + within);
        }
        late
    }

    /// The other master was silent for a while: it is asked. If it was asked before, it is ended.
    pub(crate) fn ask_peer(&mut self, turn: &mut Turn<'_>) {
        if self.stopping().is_some() && !self.outlives_peer() {
            // This master leaves the service to the other one, and must not end it.
            return;
        }
        if self.was_late_for_peer(turn, Timer::Answer, ANSWER_WITHIN) {
            return;
        }
        let Some(peer) = &mut self.peer else { return };
        let by = turn.now + ANSWER_WITHIN;
        self.timers.set(Timer::Answer, by);
        if peer.answer_by.replace(by).is_some() {
            // It is asked no more; if even KILL does not end it, that is tried again.
            self.peer_is_silent(turn);
        } else {
            turn.send_to_peer(PeerMessage::Ask);
        }
    }

    fn peer_is_silent(&mut self, turn: &mut Turn<'_>) {
        let Some(peer) = &self.peer else { return };
        let (label, within) = (peer.label(), human(ANSWER_WITHIN));
        let why = format!("{label} has not answered for {within}");
        turn.tell(Fact::PeerSilent(label, ANSWER_WITHIN));
        self.turn_back_without_peer(turn, why);
        turn.act(Action::Peer(PeerAction::Kill));
    }

    /// A new master is given up by the old one, which has the service again.
    fn turn_back_without_peer(&mut self, turn: &mut Turn<'_>, why: String) {
        let moves = self.rollout.as_ref().map(|rollout| &rollout.direction);
        if moves == Some(&Direction::Peer) {
            self.fork_turns_back(turn, why);
        }
    }

    /// The other master lives, and cannot be talked to. The old master keeps or gets the service:
    /// it has it until it has handed it over.
    pub(crate) fn peer_link_lost(&mut self, turn: &mut Turn<'_>, why: &str) {
        let Some(peer) = &self.peer else { return };
        let label = peer.label();
        match (peer.side, peer.handed_over) {
            (PeerSide::Old, None) => {
                self.turn_back_without_peer(turn, format!("the link to {label} is lost: {why}"));
                turn.act(Action::Peer(PeerAction::Kill));
            }
            // The new one is the service. Its end is seen all the same.
            (PeerSide::Old, Some(_)) => self.timers.clear(Timer::Answer),
            (PeerSide::New, None) => {
                let why = format!("{label} has given this one up: {why}");
                self.stop_because(turn, why);
            }
            (PeerSide::New, Some(_)) => turn.act(Action::Peer(PeerAction::Kill)),
        }
    }

    /// An operation of the other master has ended: who waits for it here is told.
    pub(crate) fn peer_operation_ended(
        &mut self,
        turn: &mut Turn<'_>,
        op: OpId,
        kind: OperationKind,
        outcome: Outcome,
    ) {
        self.operations.learn(turn.now, op, kind);
        self.end_operation_of_peer(turn, op, outcome);
    }

    /// The end of an operation of the other master, which is not told of it.
    fn end_operation_of_peer(&mut self, turn: &mut Turn<'_>, op: OpId, outcome: Outcome) {
        if self.operations.end(turn.now, op, outcome.clone()) {
            turn.act(Action::Finished(op, outcome));
        }
    }

    /// The other master is dead. What it was asked for ends with it, but for a rollback of the
    /// upgrade, which comes about by that.
    pub(crate) fn end_operations_of_dead_peer(&mut self, turn: &mut Turn<'_>, peer: &Peer) {
        let label = peer.label();
        for (op, kind) in self.operations.running_elsewhere() {
            if op == peer.op {
                continue;
            }
            if let (PeerSide::Old, OperationKind::Rollback, Some(rollout)) =
                (peer.side, kind, &mut self.rollout)
                && let Direction::Back(_, asked_by) = &mut rollout.direction
            {
                asked_by.push(op);
                continue;
            }
            let why = format!("{label}, which it was asked of, has ended meanwhile");
            self.end_operation_of_peer(turn, op, Outcome::Lost(why));
        }
    }

    /// The other master is not followed through an upgrade in place, and neither are its
    /// operations.
    pub(crate) fn lose_operations_of_peer(&mut self, turn: &mut Turn<'_>) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        self.end_operations_of_dead_peer(turn, &peer);
    }
}
