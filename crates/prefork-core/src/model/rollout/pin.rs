//! A new generation: the driver pins it, or another image of the master does, and the rollout
//! follows.

use std::rc::Rc;

use crate::model::action::{Action, PinSource};
use crate::model::fact::Fact;
use crate::model::ids::{Generation, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::peer::PeerMessage;
use crate::model::policy::Policy;
use crate::model::releases::PinnedRelease;
use crate::model::state::Supervisor;
use crate::model::state::rollout::Pinning;
use crate::model::turn::Turn;

impl Supervisor {
    /// Begins an operation that needs a new generation: the driver pins it, and the rollout
    /// follows.
    pub(crate) fn pin(
        &mut self,
        turn: &mut Turn<'_>,
        kind: OperationKind,
        source: PinSource,
        ticket: Option<Ticket>,
    ) {
        let op = turn.begin(&mut self.operations, kind, ticket);
        let to = self.next_generation();
        let same_command_as = match source {
            PinSource::Of(old) | PinSource::SameImage(old) => Some(old),
            PinSource::Asked { renewed: true, .. } => None,
            PinSource::Now | PinSource::Asked { .. } | PinSource::Successor => self.serving,
        };
        self.readiness_memory.begins(to, same_command_as);
        let is_upgrade = match source {
            PinSource::Successor | PinSource::SameImage(_) => true,
            PinSource::Now | PinSource::Asked { .. } | PinSource::Of(_) => false,
        };
        let is_copy = match source {
            PinSource::Of(old) | PinSource::SameImage(old) => Some(old) == self.serving,
            PinSource::Now | PinSource::Asked { .. } | PinSource::Successor => false,
        };
        self.pinning = Some(Pinning {
            op,
            kind,
            to,
            is_copy,
        });
        if is_upgrade {
            // The check takes a while; a client that hears nothing might take the master for dead.
            turn.progress(op, 0, self.slots.len(), "checking the successor");
        }
        turn.act(Action::Pin(to, source));
        if self.peer.is_some() {
            turn.send_to_peer(PeerMessage::Used(to));
        }
    }

    pub(crate) fn pinned(
        &mut self,
        turn: &mut Turn<'_>,
        generation: Generation,
        policy: Rc<Policy>,
        release: PinnedRelease,
    ) {
        let Some(pinning) = self.pinning.take_if(|pinning| pinning.to == generation) else {
            return;
        };
        if self.mode.stopping().is_some() {
            return;
        }
        self.unpause(turn, pinning.kind);
        self.begin_rollout(turn, pinning, policy, release);
    }

    pub(crate) fn pin_failed(&mut self, turn: &mut Turn<'_>, generation: Generation, why: String) {
        let Some(pinning) = self.pinning.take_if(|pinning| pinning.to == generation) else {
            return;
        };
        // The generation never began, so its number was not used.
        self.last_generation -= 1;
        self.readiness_memory.forget(generation);
        turn.tell(Fact::PinFailed {
            op: pinning.op,
            kind: pinning.kind,
            from: self.serving,
            why: why.clone(),
        });
        turn.end(&mut self.operations, pinning.op, Outcome::Failed(why));
    }

    /// The generation that another image of the master is to pin; None: no upgrade in place is
    /// under way.
    pub fn successor_of(&self) -> Option<Generation> {
        self.pinning
            .as_ref()
            .filter(|pinning| pinning.kind == OperationKind::Upgrade)
            .map(|pinning| pinning.to)
    }

    /// The generation whose pin the next image of the master is to copy; None: it pins anew.
    pub fn successor_copies(&self) -> Option<Generation> {
        let is_copy = |pinning: &&Pinning| pinning.is_copy;
        self.pinning.as_ref().filter(is_copy)?;
        self.serving
    }

    /// Whether another image of the master is waited for.
    pub fn awaits_successor(&self) -> bool {
        self.successor_of().is_some()
    }

    /// No worker will be started from this generation any more.
    pub(crate) fn forget(&mut self, turn: &mut Turn<'_>, generation: Generation) {
        self.readiness_memory.forget(generation);
        turn.act(Action::Forget(generation));
    }
}
