//! An upgrade by fork that has begun, up to its end: what each master does when something happens
//! to the other. The conversation stands in [`fork`](super).

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::fact::text::human;
use crate::model::ids::{OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::peer::{ASK_AFTER, HELLO_WITHIN, PeerAction, PeerEvent, PeerMessage, PeerSide};
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::peer::Peer;
use crate::model::state::rollout::{Direction, Rollout, RolloutResult};
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    /// Whether the service is on its way from this master to the other.
    pub(crate) fn is_moving_to_new_master(&self) -> bool {
        let moves = |peer: &Peer| peer.side == PeerSide::Old && !peer.settled && !peer.manual;
        self.peer.as_ref().is_some_and(moves)
    }

    /// Whether the service is on its way back from this master to the old one.
    pub(crate) fn is_moving_back(&self) -> bool {
        let back = self.rollout.as_ref().map(|rollout| &rollout.direction);
        let new = |peer: &Peer| peer.side == PeerSide::New;
        self.peer.as_ref().is_some_and(new) && back.is_some_and(Direction::is_back)
    }

    /// Something happened to the other master.
    pub(crate) fn peer_event(&mut self, turn: &mut Turn<'_>, what: PeerEvent) {
        match what {
            PeerEvent::Started(pid) => {
                if let Some(peer) = &mut self.peer {
                    peer.pid = Some(pid);
                }
            }
            PeerEvent::NotStarted(why) => self.peer_not_started(turn, why),
            PeerEvent::Said(told) => self.peer_said(turn, told),
            PeerEvent::Exited(how) => self.peer_exited(turn, &how),
            PeerEvent::LinkLost(why) => self.peer_link_lost(turn, &why),
        }
    }

    /// There is no new master, and nothing has changed.
    fn peer_not_started(&mut self, turn: &mut Turn<'_>, why: String) {
        self.forget_peer();
        let peer = |rollout: &mut Rollout| rollout.direction == Direction::Peer;
        let Some(rollout) = self.rollout.take_if(peer) else {
            return;
        };
        // The generation never began, so its number was not used.
        self.last_generation -= 1;
        self.readiness_memory.forget(rollout.to);
        self.releases.cancel(rollout.to);
        turn.tell(Fact::PinFailed {
            op: rollout.op,
            kind: rollout.kind,
            from: self.serving,
            why: why.clone(),
        });
        turn.end(&mut self.operations, rollout.op, Outcome::Failed(why));
    }

    /// A new master that does not say in time that it is up is given up.
    pub(crate) fn new_master_overdue(&mut self, turn: &mut Turn<'_>) {
        if self.was_late_for_peer(turn, Timer::Hello, HELLO_WITHIN) {
            return;
        }
        let Some(peer) = &self.peer else { return };
        let why = format!(
            "{} did not stand within {}",
            peer.label(),
            human(HELLO_WITHIN)
        );
        let rollout = self.rollout.as_ref();
        if rollout.is_some_and(|rollout| rollout.direction == Direction::Peer) {
            self.fork_turns_back(turn, why);
        } else {
            // A stop came between.
            turn.act(Action::Peer(PeerAction::Kill));
        }
    }

    fn peer_said(&mut self, turn: &mut Turn<'_>, told: PeerMessage) {
        self.peer_answered(turn.now);
        let Some(peer) = &mut self.peer else {
            return;
        };
        match told {
            PeerMessage::Ask => turn.send_to_peer(PeerMessage::Alive),
            PeerMessage::Alive => {}
            PeerMessage::Take => match peer.side {
                PeerSide::Old => self.old_master_takes_back(turn),
                PeerSide::New => self.new_master_takes_over(turn),
            },
            PeerMessage::Taken => match peer.side {
                PeerSide::Old => self.hand_over_to_new_master(turn),
                PeerSide::New => self.new_master_leaves(turn),
            },
            PeerMessage::Began(op, kind) => self.operations.learn(turn.now, op, kind),
            PeerMessage::Ended(op, kind, outcome) => {
                self.peer_operation_ended(turn, op, kind, outcome)
            }
            PeerMessage::Hello(pid) => {
                peer.pid = Some(pid);
                peer.is_up = true;
                peer.answer_by = None;
                if peer.manual && peer.stop.is_some() {
                    turn.act(Action::Peer(PeerAction::Succeeded));
                }
                self.timers.clear(Timer::Hello);
                self.timers.set(Timer::Answer, turn.now + ASK_AFTER);
                turn.tell(Fact::PeerUp(peer.label()));
            }
            PeerMessage::Ready(slot) => {
                peer.peer_ready.insert(slot);
                self.give_up_slot(turn, slot);
            }
            PeerMessage::AllReady => self.give_up_all_slots(turn),
            PeerMessage::Done(workers) if peer.manual => self.both_masters_serve(turn, workers),
            PeerMessage::Done(workers) => peer.may_leave = Some(workers),
            PeerMessage::Back(why) => self.fork_turns_back(turn, why),
            PeerMessage::Want(slot) => {
                peer.requested_by_peer.insert(slot);
                self.give_up_slot(turn, slot);
            }
            PeerMessage::Free(slot) => {
                peer.freed_by_peer.insert(slot);
            }
            PeerMessage::Stop(severity) => {
                peer.stop = peer.stop.max(Some(severity));
                peer.was_told_to_stop = true;
                self.stop(turn, severity, 0, None);
            }
            PeerMessage::Used(generation) => {
                self.last_generation = self.last_generation.max(generation.0);
            }
            PeerMessage::Counted(counted) => {
                // Each message has all of it, so that one that is missed does no harm.
                let counted = counted.at_least(&peer.counters_told);
                self.counters = self.counters.and(&counted.since(&peer.counters_told));
                peer.counters_told = counted;
            }
        }
    }

    /// The other master wants to go back, or does not answer.
    pub(crate) fn fork_turns_back(&mut self, turn: &mut Turn<'_>, why: String) {
        let Some(peer) = &self.peer else { return };
        if peer.side == PeerSide::New && peer.settled {
            // `--manual`: it has all its workers, and the old master did not know that yet.
            turn.tell(Fact::ForkTurnedBack(why.clone()));
            return self.stop_because(turn, format!("the upgrade was rolled back: {why}"));
        }
        match (peer.side, self.rollout.as_ref().map(|r| &r.direction)) {
            (PeerSide::Old, Some(Direction::Peer)) => {
                turn.tell(Fact::ForkTurnedBack(why.clone()));
                self.begin_rollback(turn, why, None);
            }
            (PeerSide::New, Some(Direction::Forward)) if peer.handed_over.is_none() => {
                self.rollout_failed(turn, why);
            }
            _ => {}
        }
    }

    /// The old master turns back: its slots are its own again.
    pub(crate) fn old_master_turns_back(&mut self, turn: &mut Turn<'_>, why: &str) {
        if let Some(peer) = &mut self.peer {
            if !peer.is_up {
                // It has no worker to end yet, and a new master that hangs would never read the
                // message.
                turn.act(Action::Peer(PeerAction::Kill));
            }
            peer.turn_back();
            turn.send_to_peer(PeerMessage::Back(why.to_owned()));
        }
    }

    /// The first rollout of a new master has failed. True if there is an old master that takes the
    /// slots again.
    pub(crate) fn new_master_backs_out(
        &mut self,
        turn: &mut Turn<'_>,
        why: &str,
        asked_by: Option<OpId>,
    ) -> bool {
        let (Some(peer), Some(rollout)) = (&mut self.peer, &mut self.rollout) else {
            return false;
        };
        let over = peer.settled || peer.handed_over.is_some();
        if peer.side == PeerSide::Old || over || rollout.direction != Direction::Forward {
            return false;
        }
        turn.send_to_peer(PeerMessage::Back(why.to_owned()));
        if peer.manual {
            // The old master has given up no slot: the new one simply ends.
            return false;
        }
        turn.tell(Fact::ForkTurnedBack(why.to_owned()));
        peer.turn_back();
        rollout.direction = Direction::Back(why.to_owned(), asked_by.into_iter().collect());
        rollout.probation = None;
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        let undone = "undone: the upgrade is rolled back, so ask the old master";
        self.supersede_scaling(turn, undone);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.rests_until = None;
            let starting = slot
                .current
                .take_if(|id| self.workers.get(id).is_none_or(|worker| !worker.is_ready()));
            // These serve no client yet.
            for id in [starting, slot.replacement.take()].into_iter().flatten() {
                self.request_stop(turn, id, StopSeverity::Graceful, StopReason::RollingBack);
            }
        }
        true
    }

    /// `rollback` during an upgrade, asked of the new master: true if it was that.
    pub(crate) fn rollback_to_old_master(&mut self, turn: &mut Turn<'_>, ticket: Ticket) -> bool {
        let automatic = |peer: &&Peer| peer.side == PeerSide::New && !peer.manual;
        let first = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.from.is_none());
        if !first || self.peer.as_ref().filter(automatic).is_none() {
            return false;
        }
        let op = turn.begin(&mut self.operations, OperationKind::Rollback, Some(ticket));
        let why = format!("it was asked for by a rollback, operation {op}");
        if !self.new_master_backs_out(turn, &why, Some(op)) {
            // It goes back already.
            if let Some(Rollout {
                direction: Direction::Back(_, ops),
                ..
            }) = &mut self.rollout
            {
                ops.push(op);
            }
        }
        true
    }

    /// `--manual`: the new master has all its workers, and no worker is told to finish.
    fn both_masters_serve(&mut self, turn: &mut Turn<'_>, workers: usize) {
        let in_new_master = |rollout: &mut Rollout| rollout.direction == Direction::Peer;
        let (Some(rollout), Some(peer)) = (self.rollout.take_if(in_new_master), &mut self.peer)
        else {
            return;
        };
        peer.settled = true;
        let fact = Fact::BothMastersServe(peer.label(), workers);
        self.end_record(turn.now, &rollout, RolloutResult::Done, None);
        let outcome = Outcome::done(fact.detail());
        turn.tell(fact);
        turn.end(&mut self.operations, rollout.op, outcome);
    }

    /// The other master is dead: this one is alone, and has all slots.
    fn peer_exited(&mut self, turn: &mut Turn<'_>, how: &str) {
        let Some(peer) = self.forget_peer() else {
            return;
        };
        let expected = self.mode.stopping().is_some() || peer.announced_done || peer.settled;
        turn.tell(Fact::PeerExited(peer.label(), how.to_owned(), expected));
        match peer.side {
            PeerSide::Old => {
                if let (Mode::Stopping(stopping), true, false) =
                    (&mut self.mode, peer.manual, peer.is_up)
                {
                    // This master was told to commit to a new one that never came up.
                    stopping.code = 1;
                    stopping.reason = Some(format!("{} {how}, and no master serves", peer.label()));
                }
                turn.act(Action::Peer(PeerAction::TakeNamesBack));
                self.old_master_alone(turn, &peer, how);
            }
            PeerSide::New => {
                turn.act(Action::Peer(PeerAction::RemoveOldNames));
                self.new_master_alone(turn);
            }
        }
        self.end_operations_of_dead_peer(turn, &peer);
    }

    fn forget_peer(&mut self) -> Option<Peer> {
        self.timers.clear(Timer::Hello);
        self.timers.clear(Timer::Answer);
        self.operations.share_except(None);
        self.peer.take()
    }

    fn old_master_alone(&mut self, turn: &mut Turn<'_>, peer: &Peer, how: &str) {
        match self.mode {
            Mode::Running | Mode::Paused(_) => {}
            Mode::Idle | Mode::Stopping(_) | Mode::Over => return,
        }
        let under_way = |rollout: &Rollout| rollout.direction == Direction::Peer;
        if self.rollout.as_ref().is_some_and(under_way) {
            self.begin_rollback(turn, format!("{} {how}", peer.label()), None);
        }
        if peer.handed_over.is_some() {
            // It was already done; but the service is this master's again.
            turn.tell(Fact::ForkTurnedBack(format!("{} {how}", peer.label())));
        }
        if self.mode.is_paused() && !peer.was_paused {
            // Its workers were sent away because the new master had workers.
            self.resume(turn, None);
        }
    }

    /// The new master goes on as if it had always been there: the generation that the old one
    /// served from is what it can go back to.
    pub(crate) fn new_master_alone(&mut self, turn: &mut Turn<'_>) {
        let (Some(rollout), Mode::Running) = (&mut self.rollout, &self.mode) else {
            return;
        };
        if rollout.from.is_some() {
            return;
        }
        let direction = std::mem::replace(&mut rollout.direction, Direction::Forward);
        if let Direction::Back(_, asked_by) = direction {
            turn.tell(Fact::ForkGoesOn);
            rollout.failures = 0;
            for op in asked_by {
                let why = "the upgrade goes on: there is no old master to go back to";
                turn.end(&mut self.operations, op, Outcome::Failed(why.to_owned()));
            }
        }
        if let Some(old) = self.releases.kept.pop() {
            rollout.from = Some(old.generation);
            self.serving = Some(old.generation);
            self.policy = old.policy;
        }
    }
}
