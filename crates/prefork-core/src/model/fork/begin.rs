//! An upgrade by fork begins: what the new master is started with, and why there may be none beside
//! another.

use std::rc::Rc;

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::ids::Ticket;
use crate::model::operation::OperationKind;
use crate::model::peer::{ForkState, HELLO_WITHIN, PeerAction, PeerSide};
use crate::model::releases::{KeptRelease, PinnedRelease};
use crate::model::state::Supervisor;
use crate::model::state::peer::Peer;
use crate::model::state::rollout::{Direction, Pinning, Rollout};
use crate::model::timer::Timer;
use crate::model::turn::Turn;

/// How an upgrade by fork is made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fork {
    /// Both masters serve until one is told to quit (USR2).
    pub(crate) manual: bool,
    /// The new master is this image again, and its first generation a copy of the one that serves.
    pub(crate) is_copy: bool,
}

impl Supervisor {
    /// `upgrade --fork`, and by `manual` USR2: a new master beside this one.
    pub(crate) fn fork(&mut self, turn: &mut Turn<'_>, fork: Fork, ticket: Option<Ticket>) {
        let Fork { manual, is_copy } = fork;
        // No generation serves before the first rollout is done, and during it the command is
        // refused as busy.
        let Some(from) = self.serving else { return };
        let op = turn.begin(&mut self.operations, OperationKind::Upgrade, ticket);
        let to = self.next_generation();
        self.readiness_memory.begins(to, Some(from));
        let slots = self.slots.len();
        let began = Fact::ForkBegan {
            op,
            from,
            to,
            manual,
        };
        turn.tell_with_progress(began, op, 0, slots);
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
            .begin(to, kind, (PinnedRelease::default(), true), turn.now);
        let pinning = Pinning {
            op,
            kind,
            to,
            is_copy,
        };
        self.rollout = Some(Rollout {
            direction: Direction::Peer,
            canary_passed: true,
            ..Rollout::new(pinning, (Some(from), false), Rc::clone(&policy), turn.now)
        });
        let mut peer = Peer::new(PeerSide::Old, manual, op);
        peer.was_paused = self.mode.is_paused();
        peer.counters_at_fork = self.counters;
        peer.answer_by = Some(turn.now + HELLO_WITHIN);
        self.peer = Some(peer);
        self.timers.set(Timer::Hello, turn.now + HELLO_WITHIN);
        let state = ForkState {
            op,
            manual,
            is_copy,
            from,
            releases,
            to,
            scaled: (slots != self.configured).then_some(slots),
            operations: self.operations.clone(),
            readiness_memory: self.readiness_memory.clone(),
            answers: true,
            counters: self.counters,
            slots: self.slots.iter().map(|slot| slot.totals).collect(),
        };
        self.operations.share_except(Some(op));
        turn.act(Action::Peer(PeerAction::StartMaster(Box::new(state))));
    }

    /// Why there can be no further master beside this one.
    pub(crate) fn why_no_fork_beside_peer(&self) -> Option<String> {
        let peer = self.peer.as_ref()?;
        let other = peer.label();
        if peer.handed_over.is_some() {
            let names = "its names are taken until it has ended";
            return Some(format!("{other} still drains: {names}"));
        }
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

    /// Why this master cannot be upgraded in place beside another. A drain of the old one is no
    /// reason: that goes on by itself.
    pub(crate) fn why_no_upgrade_beside_peer(&self) -> Option<String> {
        let peer = self.peer.as_ref()?;
        let drains = peer.side == PeerSide::New && peer.handed_over.is_some();
        self.why_no_fork_beside_peer().filter(|_| !drains)
    }
}
