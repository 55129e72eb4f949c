//! Rollouts that change the listeners: to a generation that has more of them, or fewer.
//!
//! What a new generation has besides is open from its pin on. What it lacks stays open until the
//! rollout is done, since the old workers serve with it and may have to come back; then the master
//! closes its own copies, before the outcome is told. A rollout that fails leaves the listeners as
//! they were.

use crate::model::action::{Action, PinSource};
use crate::model::fact::Fact;
use crate::model::ids::Ticket;
use crate::model::operation::{OperationKind, Outcome};
use crate::model::state::Supervisor;
use crate::model::state::rollout::Rollout;
use crate::model::turn::Turn;

impl Supervisor {
    /// A client gives listeners; `new`: the master does not hold all of them already.
    pub(crate) fn add_listeners(&mut self, turn: &mut Turn<'_>, ticket: Ticket, new: bool) {
        let kind = OperationKind::AddFds;
        if new {
            return self.change_listeners(turn, kind, ticket);
        }
        let op = turn.begin(&mut self.operations, kind, Some(ticket));
        let outcome = Outcome::done("the service has these listeners already");
        turn.end(&mut self.operations, op, outcome);
    }

    /// A rollout to a generation that has other listeners and is the same in everything else.
    pub(crate) fn change_listeners(
        &mut self,
        turn: &mut Turn<'_>,
        kind: OperationKind,
        ticket: Ticket,
    ) {
        let asked = PinSource::Asked {
            ticket,
            renewed: false,
        };
        self.pin(turn, kind, asked, Some(ticket));
    }

    /// The rollout is done: what the new generation lacks is closed.
    pub(crate) fn close_removed_listeners(&self, turn: &mut Turn<'_>, rollout: &Rollout) {
        if rollout.listeners.is_empty() {
            return;
        }
        turn.act(Action::SettleListeners(rollout.to));
        for listener in &rollout.listeners.removed {
            turn.tell(Fact::ListenerRemoved(listener.clone()));
        }
    }

    /// The rollout has failed and its generation is forgotten: what only that one had is closed.
    pub(crate) fn added_listeners_are_closed(&self, turn: &mut Turn<'_>, rollout: &Rollout) {
        for listener in &rollout.listeners.added {
            turn.tell(Fact::ListenerRemoved(listener.clone()));
        }
    }
}
