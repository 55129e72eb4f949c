//! Workers that were told to finish and take their time: limits on how many, and `retire`, which
//! ends a generation's drain now.

use crate::model::action::Refusal;
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::{Generation, Ticket, WorkerId};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::changes::Retiring;
use crate::model::state::workers::WorkerSet;
use crate::model::turn::Turn;
use crate::model::worker::Input;

impl Supervisor {
    /// `retire`: the workers of that generation that drain are told to go at once.
    pub(crate) fn retire(&mut self, turn: &mut Turn<'_>, generation: Generation, ticket: Ticket) {
        if generation.0 == 0 || generation.0 > self.last_generation {
            let text = format!(
                "there never was a generation {generation}: the last is {}",
                self.last_generation
            );
            turn.refuse(ticket, Refusal::Senseless, text);
            return;
        }
        let op = turn.begin(&mut self.operations, OperationKind::Retire, Some(ticket));
        let told = self.workers.members(WorkerSet::ToldOf(generation));
        let draining = told.filter(|worker| worker.drains());
        let draining: Vec<WorkerId> = draining.map(|worker| worker.id).collect();
        let count = draining.len();
        turn.tell_with_progress(Fact::RetireBegan(generation, count), op, 0, count);
        for id in draining {
            self.request_stop(turn, id, StopSeverity::Quick, StopReason::Retire);
        }
        self.retiring.push(Retiring { op, generation });
    }

    /// Draining workers beyond `--max-draining` are killed, the oldest first; and every `retire`
    /// whose workers are gone is over.
    pub(crate) fn settle_drains(&mut self, turn: &mut Turn<'_>) {
        if let Some(limit) = self.policy.max_draining {
            let draining = self.workers.count(WorkerSet::Draining);
            let surplus = draining.saturating_sub(limit);
            let oldest: Vec<WorkerId> = self.workers.draining().take(surplus).collect();
            for id in oldest {
                self.feed(turn, id, Input::OverLimit);
            }
        }
        let over = |retiring: &Retiring| {
            let told = WorkerSet::ToldOf(retiring.generation);
            !self.workers.has_any(told)
        };
        let (done, open): (Vec<Retiring>, Vec<Retiring>) =
            self.retiring.iter().copied().partition(over);
        self.retiring = open;
        for Retiring { op, generation } in done {
            let text = format!("no worker of generation {generation} drains any more");
            turn.end(&mut self.operations, op, Outcome::done(text));
        }
    }
}
