//! An upgrade by fork, from its beginning to its end: what each master does when something happens to
//! the other. The conversation stands in [`fork`](super).

use std::rc::Rc;

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::fact::text::human;
use crate::model::ids::{OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::peer::{ForkState, HELLO_WITHIN, PeerAction, PeerEvent, PeerMessage, PeerSide};
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::peer::Peer;
use crate::model::state::releases::{KeptRelease, PinnedRelease};
use crate::model::state::rollout::{Direction, Pinning, Rollout, RolloutResult};
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    /// `upgrade --fork`, and by `manual` USR2: a new master beside this one.
    pub(crate) fn fork(&mut self, turn: &mut Turn<'_>, manual: bool, ticket: Option<Ticket>) {
        // No generation serves before the first rollout is done, and during it the command is refused
        // as busy.
        let Some(from) = self.serving else { return };
        let op = turn.begin(&mut self.operations, OperationKind::Upgrade, ticket);
        let to = self.next_generation();
        self.readiness_memory.begins(to, Some(from));
        let slots = self.slots.len();
        turn.tell_with_progress(Fact::ForkBegan { to, manual }, op, 0, slots);
        let policy = Rc::clone(&self.policy);
        let mut releases = self.releases.clone();
        releases.kept.push(KeptRelease {
            generation: from,
            policy: Rc::clone(&policy),
            rolled_away: false,
        });
        let kind = OperationKind::Upgrade;
        // What it is pinned from, the new master knows alone.
        self.releases
            .begin(to, kind, PinnedRelease::default(), turn.now);
        let pinning = Pinning { op, kind, to };
        self.rollout = Some(Rollout {
            direction: Direction::Peer,
            canary_passed: true,
            ..Rollout::new(pinning, (Some(from), false), Rc::clone(&policy), turn.now)
        });
        let mut peer = Peer::new(PeerSide::Old, manual, op);
        peer.was_paused = self.mode.is_paused();
        self.peer = Some(peer);
        self.timers.set(Timer::Hello, turn.now + HELLO_WITHIN);
        let state = ForkState {
            op,
            manual,
            from,
            releases,
            to,
            scaled: (slots != self.configured).then_some(slots),
            operations: self.operations.known_to_new_master(op),
            readiness_memory: self.readiness_memory.clone(),
        };
        turn.act(Action::Peer(PeerAction::StartMaster(Box::new(state))));
    }

    /// Why there can be no further master beside this one.
    pub(crate) fn why_no_fork_beside_peer(&self) -> Option<String> {
        let peer = self.peer.as_ref()?;
        let other = peer.label();
        Some(match (peer.settled || peer.manual, peer.side) {
            (false, _) => format!("{other} lives"),
            (true, PeerSide::Old) => {
                format!("{other} lives: QUIT to it backs out, QUIT to this one commits")
            }
            (true, PeerSide::New) => {
                format!("{other} lives: QUIT to it commits, QUIT to this one backs out")
            }
        })
    }

    /// Whether the service is on its way from this master to the other.
    pub(crate) fn is_moving_to_new_master(&self) -> bool {
        let moves = |peer: &Peer| peer.side == PeerSide::Old && !peer.settled && !peer.manual;
        self.peer.as_ref().is_some_and(moves)
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
            PeerEvent::Detached => {
                if self.peer.take().is_some() {
                    let why = "the old master has given this one up";
                    self.stop_because(turn, why.to_owned());
                }
            }
        }
    }

    /// There is no new master, and nothing has changed.
    fn peer_not_started(&mut self, turn: &mut Turn<'_>, why: String) {
        self.peer = None;
        self.timers.clear(Timer::Hello);
        let peer = |rollout: &mut Rollout| rollout.direction == Direction::Peer;
        let Some(rollout) = self.rollout.take_if(peer) else {
            return;
        };
        // The generation never began, so its number was not used.
        self.last_generation -= 1;
        self.readiness_memory.forget(rollout.to);
        self.releases.cancel(rollout.to);
        turn.tell(Fact::PinFailed {
            kind: rollout.kind,
            why: why.clone(),
        });
        turn.end(&mut self.operations, rollout.op, Outcome::Failed(why));
    }

    /// A new master that does not say in time that it is up is given up.
    pub(crate) fn new_master_overdue(&mut self, turn: &mut Turn<'_>) {
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
        let Some(peer) = &mut self.peer else {
            return;
        };
        match told {
            PeerMessage::Hello(pid) => {
                peer.pid = Some(pid);
                peer.is_up = true;
                if peer.manual && peer.stop.is_some() {
                    turn.act(Action::Peer(PeerAction::Succeeded));
                }
                self.timers.clear(Timer::Hello);
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
                self.stop(turn, severity, 0, None);
            }
            PeerMessage::Used(generation) => {
                self.last_generation = self.last_generation.max(generation.0);
            }
        }
    }

    /// The other master wants to go back, or does not answer.
    fn fork_turns_back(&mut self, turn: &mut Turn<'_>, why: String) {
        let Some(peer) = &self.peer else { return };
        match (peer.side, self.rollout.as_ref().map(|r| &r.direction)) {
            (PeerSide::Old, Some(Direction::Peer)) => {
                turn.tell(Fact::ForkTurnedBack(why.clone()));
                self.begin_rollback(turn, why, None);
            }
            (PeerSide::New, Some(Direction::Forward)) => {
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
        if peer.side == PeerSide::Old || peer.settled || rollout.direction != Direction::Forward {
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
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.rests_until = None;
            let starting = slot
                .current
                .take_if(|id| self.workers.get(id).is_none_or(|worker| !worker.is_ready()));
            // These serve no client yet.
            for id in [starting, slot.replacement.take()].into_iter().flatten() {
                self.request_stop(turn, id, StopSeverity::Graceful);
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
        let Some(peer) = self.peer.take() else {
            return;
        };
        self.timers.clear(Timer::Hello);
        let expected = self.mode.stopping().is_some() || peer.announced_done || peer.settled;
        turn.tell(Fact::PeerExited(peer.label(), how.to_owned(), expected));
        match peer.side {
            PeerSide::Old => {
                if let (Mode::Stopping(stopping), true, false) =
                    (&mut self.mode, peer.manual, peer.is_up)
                {
                    // This master was told to commit to a new one that never came up.
                    stopping.code = 1;
                    stopping.reason = Some(format!("{} {how}, and nobody serves", peer.label()));
                }
                turn.act(Action::Peer(PeerAction::TakeNamesBack));
                self.old_master_alone(turn, &peer, how);
            }
            PeerSide::New => {
                turn.act(Action::Peer(PeerAction::RemoveOldNames));
                self.new_master_alone(turn);
            }
        }
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
        if self.mode.is_paused() && !peer.was_paused {
            // Its workers were sent away because the new master had workers.
            self.resume(turn, None);
        }
    }

    /// The new master goes on as if it had always been there: the generation that the old one served
    /// from is what it can go back to.
    fn new_master_alone(&mut self, turn: &mut Turn<'_>) {
        let (Some(rollout), Mode::Running) = (&mut self.rollout, &self.mode) else {
            return;
        };
        if rollout.from.is_some() {
            return;
        }
        if rollout.direction != Direction::Forward {
            turn.tell(Fact::ForkGoesOn);
            rollout.direction = Direction::Forward;
            rollout.failures = 0;
        }
        if let Some(old) = self.releases.kept.pop() {
            rollout.from = Some(old.generation);
            self.serving = Some(old.generation);
            self.policy = old.policy;
        }
    }

    /// The old master ends: the new one has the service.
    pub(crate) fn old_master_leaves(&mut self, turn: &mut Turn<'_>, workers: usize) {
        let (Some(rollout), Some(peer)) = (self.rollout.take(), &self.peer) else {
            return;
        };
        let peer = peer.label();
        let record = self.end_record(turn.now, &rollout, RolloutResult::Done, None);
        let done = Fact::ForkDone {
            to: rollout.to,
            workers,
            peer,
            took: record.took.unwrap_or_default(),
        };
        self.end_of_rollout();
        self.serving = Some(rollout.to);
        self.counters.rollouts += 1;
        let outcome = Outcome::done(done.to_string());
        turn.tell(done);
        turn.act(Action::Peer(PeerAction::Succeeded));
        let deferred = std::mem::take(&mut self.deferred);
        for (kept, signal) in [(deferred.hup, Signal::Hup), (deferred.winch, Signal::Winch)] {
            if kept {
                turn.act(Action::Peer(PeerAction::PassOn(signal)));
            }
        }
        // Operations that still run here are the new master's business by now.
        let others: Vec<OpId> = self.operations.running().map(|known| known.op).collect();
        for op in others.into_iter().filter(|op| *op != rollout.op) {
            let outcome = Outcome::done("the new master has the service");
            turn.end(&mut self.operations, op, outcome);
        }
        turn.end(&mut self.operations, rollout.op, outcome);
        self.mode = Mode::Over;
        turn.act(Action::Exit(0, None));
    }

    /// The new master ends: the old one has the service again.
    pub(crate) fn new_master_leaves(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        let Direction::Back(why, asked_by) = &rollout.direction else {
            return;
        };
        self.counters.rolled_back += 1;
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
        self.mode = Mode::Over;
        let reason = format!("the upgrade was rolled back: {why}");
        turn.act(Action::Exit(1, Some(reason)));
    }
}
