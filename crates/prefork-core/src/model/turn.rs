//! One call of [`Supervisor::step`](super::Supervisor::step): its time, and its actions so far.

use super::action::{Action, Refusal};
use super::fact::Fact;
use super::ids::{OpId, Ticket};
use super::operation::{OperationKind, Operations, Outcome};
use super::peer::{PeerAction, PeerMessage};
use super::time::Time;

/// The time of a turn, which does not pass while it lasts, and what it has decided so far.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The driver's monotonic clock when the event was taken.
    pub now: Time,
    /// The actions, in the order in which they are to be performed.
    pub out: &'a mut Vec<Action>,
}

impl Turn<'_> {
    /// Something to be done.
    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, fact: Fact) {
        self.out.push(Action::Tell(fact));
    }

    /// An operation began with this; `done` of `total` is its first step.
    pub(crate) fn tell_with_progress(&mut self, fact: Fact, op: OpId, done: usize, total: usize) {
        let detail = fact.detail();
        self.tell(fact);
        self.progress(op, done, total, detail);
    }

    /// An operation went a step on.
    pub(crate) fn progress(
        &mut self,
        op: OpId,
        done: usize,
        total: usize,
        text: impl Into<String>,
    ) {
        self.act(Action::Progress(op, done, total, text.into()));
    }

    /// A request is not begun.
    pub(crate) fn refuse(&mut self, ticket: Ticket, refusal: Refusal, why: impl Into<String>) {
        self.act(Action::Refused(ticket, refusal, why.into()));
    }

    /// A message to the other master.
    pub(crate) fn send_to_peer(&mut self, message: PeerMessage) {
        self.act(Action::Peer(PeerAction::Tell(message)));
    }

    /// Begins an operation; the request that asked for it is told its number.
    pub(crate) fn begin(
        &mut self,
        operations: &mut Operations,
        kind: OperationKind,
        ticket: Option<Ticket>,
    ) -> OpId {
        let op = operations.begin(self.now, kind);
        if operations.is_shared(op) {
            self.send_to_peer(PeerMessage::Began(op, kind));
        }
        if let Some(ticket) = ticket {
            self.act(Action::Began(ticket, op));
        }
        op
    }

    /// Ends an operation. It ends once: a second end is not told.
    pub(crate) fn end(&mut self, operations: &mut Operations, op: OpId, outcome: Outcome) {
        let Some(kind) = operations.get(op).map(|known| known.kind) else {
            return;
        };
        if operations.end(self.now, op, outcome.clone()) {
            if operations.is_shared(op) {
                self.send_to_peer(PeerMessage::Ended(op, kind, outcome.clone()));
            }
            self.act(Action::Finished(op, outcome));
        }
    }
}
