//! A new generation: the driver pins it, or another image of the master does, and the rollout follows.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::model::event::{Action, Generation, Level, OpId, Outcome, Source, Ticket};
use crate::model::fork::PeerMessage;
use crate::model::policy::Policy;
use crate::model::supervisor::{Mode, Supervisor};
use crate::model::time::Time;

/// A new generation that the driver was told to pin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pinning {
    pub(crate) op: OpId,
    #[serde(with = "crate::model::state::kept::word")]
    pub(crate) kind: crate::model::state::kept::Constant,
    pub(crate) to: Generation,
}

impl Supervisor {
    /// Begins an operation that needs a new generation: the driver pins it, and the rollout follows.
    pub(crate) fn pin(
        &mut self,
        now: Time,
        kind: &'static str,
        source: Source,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        let op = self.operations.begin(now, kind, ticket, out);
        self.last_generation += 1;
        let to = Generation(self.last_generation);
        self.memory.begins(
            to,
            match source {
                Source::Of(old) => Some(old),
                Source::Asked { renewed: true, .. } => None,
                Source::Now | Source::Asked { .. } | Source::Successor => self.serving,
            },
        );
        self.pinning = Some(Pinning { op, kind, to });
        if source == Source::Successor {
            // That takes a while, in which whoever waits should not take us for dead.
            let slots = self.slots.len();
            out.push(Action::Progress(
                op,
                0,
                slots,
                "checking the successor".to_owned(),
            ));
        }
        out.push(Action::Pin(to, source));
        if self.beside.is_some() {
            out.push(Action::tell_other(PeerMessage::Used(to)));
        }
    }

    pub(crate) fn pinned(
        &mut self,
        now: Time,
        generation: Generation,
        policy: Rc<Policy>,
        out: &mut Vec<Action>,
    ) {
        let Some(pinning) = self.pinning.take_if(|pinning| pinning.to == generation) else {
            return;
        };
        if matches!(self.mode, Mode::Stopping(_)) {
            return;
        }
        self.unpause(now, pinning.kind, out);
        self.begin_rollout(now, pinning, policy, out);
    }

    pub(crate) fn pin_failed(
        &mut self,
        now: Time,
        generation: Generation,
        why: String,
        out: &mut Vec<Action>,
    ) {
        let Some(pinning) = self.pinning.take_if(|pinning| pinning.to == generation) else {
            return;
        };
        // The generation never began, so its number was not used.
        self.last_generation -= 1;
        self.memory.forget(generation);
        let text = format!("{} refused, nothing has changed: {why}", pinning.kind);
        out.push(Action::note(Level::Error, text));
        self.operations
            .end(now, pinning.op, Outcome::Failed(why), out);
    }

    /// The generation that another image of the master is to pin, or has to; None if none is.
    pub fn successor_of(&self) -> Option<Generation> {
        let pinning = self.pinning.as_ref()?;
        (pinning.kind == "upgrade").then_some(pinning.to)
    }

    /// Whether somebody waits for another image of the master.
    pub fn awaits_successor(&self) -> bool {
        self.successor_of().is_some()
    }

    /// Nobody will be started from this generation any more.
    pub(crate) fn forget(&mut self, generation: Generation, out: &mut Vec<Action>) {
        self.memory.forget(generation);
        out.push(Action::Forget(generation));
    }
}
