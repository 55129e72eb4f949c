//! Workers that were told to finish and take their time: limits on how many, and `retire`, which ends a generation's drain now.

use serde::{Deserialize, Serialize};

use super::Supervisor;
use crate::model::event::{
    Action, Generation, Level, OpId, Outcome, Refusal, Ticket, WorkerId, workers,
};
use crate::model::policy::StopSeverity;
use crate::model::time::Time;
use crate::model::worker::{Phase, Worker};

/// A `retire` under way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Retiring {
    op: OpId,
    generation: Generation,
}

fn drains(worker: &Worker) -> bool {
    let told = match worker.phase {
        Phase::Stopping(word) | Phase::Leaderless(word) => word < StopSeverity::Kill,
        Phase::Spawning | Phase::Starting | Phase::Ready | Phase::Gone => false,
    };
    told && worker.asked
}

impl Supervisor {
    /// `retire`: the workers of that generation that drain are told to go at once.
    pub(crate) fn retire(
        &mut self,
        now: Time,
        generation: Generation,
        ticket: Ticket,
        out: &mut Vec<Action>,
    ) {
        if generation.0 == 0 || generation.0 > self.last_generation {
            let text = format!(
                "there never was a generation {generation}: the last is {}",
                self.last_generation
            );
            out.push(Action::Refused(ticket, Refusal::Senseless, text));
            return;
        }
        let op = self.operations.begin(now, "retire", Some(ticket), out);
        let draining: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| worker.generation == generation && drains(worker))
            .map(|worker| worker.id)
            .collect();
        let text = format!(
            "{} of generation {generation} told to go now",
            workers(draining.len())
        );
        out.push(Action::note(Level::Info, format!("retire: {text}")));
        out.push(Action::Progress(op, 0, draining.len(), text));
        for id in draining {
            self.tell(now, id, StopSeverity::Quick, out);
        }
        self.retiring.push(Retiring { op, generation });
    }

    /// Whoever is beyond `--max-draining` is killed, the oldest first; and every `retire` whose workers are gone is over.
    pub(crate) fn settle_drains(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Some(limit) = self.policy.max_draining {
            let mut draining: Vec<(Option<Time>, WorkerId)> = self
                .workers
                .values()
                .filter(|worker| drains(worker))
                .map(|worker| (worker.told_at, worker.id))
                .collect();
            draining.sort();
            let surplus = draining.len().saturating_sub(limit);
            for (_, id) in draining.into_iter().take(surplus) {
                self.over_limit(now, id, out);
            }
        }
        let told =
            |worker: &Worker| matches!(worker.phase, Phase::Stopping(_) | Phase::Leaderless(_));
        let over = |retiring: &Retiring| {
            !self
                .workers
                .values()
                .any(|worker| worker.generation == retiring.generation && told(worker))
        };
        let (done, open): (Vec<Retiring>, Vec<Retiring>) =
            self.retiring.iter().copied().partition(over);
        self.retiring = open;
        for Retiring { op, generation } in done {
            let text = format!("no worker of generation {generation} drains any more");
            self.operations
                .end(now, op, Outcome::Done(text, Vec::new()), out);
        }
    }
}
