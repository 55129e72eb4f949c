//! From one generation to the next, as a whole: `done`, `rolled-back` or `aborted`, never half.
//!
//! Forward, each slot's new worker is started beside the old one (within `--surge`), takes the slot when it is ready, and only then
//! is the old one told to finish. Back, the same happens the other way round. Either way the rollout ends when nobody of
//! the side that lost still accepts.

pub mod forward;
pub mod listener_release;
pub mod pin;
pub mod probation;
pub mod rollback;

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Action, Generation, Level, OpId, Outcome, WorkerId};
use super::policy::Policy;
use super::rollout::pin::Pinning;
use super::rollout::probation::Probation;
use super::supervisor::{Mode, Supervisor};
use super::time::Time;
use super::timer::Timer;
use super::worker::Worker;

/// Which way a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// To the new generation.
    Forward,
    /// To the new one, in another master beside this one.
    Beside,
    /// Back to the old one, for this reason; and the operations that asked for that.
    Back(String, Vec<OpId>),
}

/// A rollout under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) op: OpId,
    #[serde(with = "super::state::kept::word")]
    pub(crate) kind: super::state::kept::Constant,
    pub(crate) from: Option<Generation>,
    pub(crate) to: Generation,
    pub(crate) policy: Rc<Policy>,
    pub(crate) way: Way,
    pub(crate) canary_past: bool,
    pub(crate) began: Time,
    pub(crate) failures: u32,
    pub(crate) settled_at: Option<Time>,
    pub(crate) probation: Option<Probation>,
}

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its operation.
    pub op: OpId,
    /// `start`, `reload` or `rollback`.
    #[serde(with = "super::state::kept::word")]
    pub kind: super::state::kept::Constant,
    /// The generation that served before; None for the first rollout.
    pub from: Option<Generation>,
    /// The generation that it rolled to.
    pub to: Generation,
    /// `running`, `done`, `rolled-back` or `aborted`.
    #[serde(with = "super::state::kept::word")]
    pub result: super::state::kept::Constant,
    /// Why it was not done.
    pub error: Option<String>,
    /// How long it took; None while it runs.
    pub took: Option<Duration>,
}

impl Rollout {
    pub(crate) fn record(&self, now: Time, result: &'static str, error: Option<String>) -> Record {
        let took = (result != "running").then(|| now.since(self.began));
        Record {
            op: self.op,
            kind: self.kind,
            from: self.from,
            to: self.to,
            result,
            error,
            took,
        }
    }

    /// What a running rollout looks like from outside.
    pub(crate) fn running(&self) -> Record {
        let error = match &self.way {
            Way::Forward | Way::Beside => None,
            Way::Back(why, _) => Some(why.clone()),
        };
        self.record(self.began, "running", error)
    }
}

impl Supervisor {
    /// Begins a rollout to a generation that is pinned.
    pub(crate) fn begin_rollout(
        &mut self,
        now: Time,
        pinning: Pinning,
        policy: Rc<Policy>,
        out: &mut Vec<Action>,
    ) {
        let Pinning { op, kind, to } = pinning;
        let from = self.serving;
        let text = match from {
            Some(from) => format!("from generation {from} to {to}"),
            None => format!(
                "generation {to}, {}",
                super::event::workers(self.slots.len())
            ),
        };
        out.push(Action::note(Level::Info, format!("{kind}: {text}")));
        out.push(Action::Progress(op, 0, self.slots.len(), text));
        let canary_past = policy.canary.is_none();
        // What went wrong with the old generation says nothing about the new one.
        for index in 0..self.slots.len() {
            self.slots[index].emptied_for_new = false;
            self.slots[index].failed_back = 0;
            self.slots[index].backoff.reset();
            self.timers.clear(Timer::Backoff(index as u32));
        }
        self.rollout = Some(Rollout {
            op,
            kind,
            from,
            to,
            policy,
            way: Way::Forward,
            canary_past,
            began: now,
            failures: 0,
            settled_at: None,
            probation: None,
        });
    }

    /// What an empty slot is filled from now: during a rollout from the old generation until the canary is past, then from the
    /// new one. None: not now (the first rollout waits for its canary).
    pub(crate) fn filler(&self, index: usize) -> Option<(Generation, Rc<Policy>)> {
        let old = self
            .serving
            .map(|generation| (generation, Rc::clone(&self.policy)));
        let Some(rollout) = &self.rollout else {
            return old;
        };
        let new = Some((rollout.to, Rc::clone(&rollout.policy)));
        match rollout.way {
            Way::Back(..) | Way::Beside => old,
            Way::Forward if rollout.canary_past => new,
            Way::Forward
                if self
                    .slots
                    .get(index)
                    .is_some_and(|slot| slot.emptied_for_new) =>
            {
                new
            }
            // Nobody of the old generation will ever hold the canary's slot again.
            Way::Forward
                if index == 0
                    && self
                        .slots
                        .first()
                        .is_some_and(|slot| slot.down.is_some() && slot.down == rollout.from) =>
            {
                new
            }
            Way::Forward if rollout.from.is_some() => old,
            Way::Forward if index == 0 => new,
            Way::Forward => None,
        }
    }

    /// The next steps of the rollout under way.
    pub(crate) fn settle_rollout(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(rollout) = &self.rollout else { return };
        match rollout.way {
            Way::Forward => self.roll_forward(now, out),
            Way::Back(..) => self.roll_back(now, out),
            Way::Beside => {}
        }
    }

    /// A failed start during a rollout. True if it was the rollout's business alone.
    pub(crate) fn rollout_failed_start(
        &mut self,
        now: Time,
        worker: &Worker,
        exit_message: &str,
        fatal: bool,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        match rollout.way {
            // Whoever had a process was looked at already; that there could be none is for whoever wanted it.
            Way::Forward if rollout.probation.is_some() => false,
            Way::Forward if worker.generation == rollout.to => {
                rollout.failures += 1;
                let (failures, limit) = (rollout.failures, rollout.policy.start_failures);
                if fatal {
                    self.fail_rollout(
                        now,
                        format!("{exit_message}, and that exit code is fatal"),
                        out,
                    );
                } else if failures >= limit {
                    let plural = if failures == 1 { "" } else { "s" };
                    self.fail_rollout(
                        now,
                        format!("{exit_message} ({failures} failed start{plural}, the limit)"),
                        out,
                    );
                }
                true
            }
            Way::Back(..) if Some(worker.generation) == rollout.from => {
                if let Some(slot) = self.slots.get_mut(worker.slot as usize) {
                    slot.failed_back += 1;
                }
                false
            }
            // One of the generation that is being left: nobody needed it any more.
            Way::Back(..) if worker.generation == rollout.to => true,
            Way::Forward | Way::Back(..) | Way::Beside => false,
        }
    }

    /// Turns a rollout round; the first one, which has nowhere to go back to, ends the master.
    pub(crate) fn fail_rollout(&mut self, now: Time, why: String, out: &mut Vec<Action>) {
        if self.backs_out(now, &why, None, out) {
            return;
        }
        let Some(rollout) = &self.rollout else { return };
        if rollout.from.is_none() {
            let (op, record) = (
                rollout.op,
                rollout.record(now, "rolled-back", Some(why.clone())),
            );
            self.last_rollout = Some(record);
            self.rollout = None;
            self.counters.rolled_back += 1;
            self.operations
                .end(now, op, Outcome::Failed(why.clone()), out);
            self.stop_because(now, format!("the first rollout failed: {why}"), out);
            return;
        }
        out.push(Action::note(
            Level::Error,
            format!(
                "{} of generation {}: rolling back: {why}",
                rollout.kind, rollout.to
            ),
        ));
        self.turn_back(now, why, None, out);
    }

    pub(crate) fn rollout_done(&mut self, now: Time, warnings: Vec<String>, out: &mut Vec<Action>) {
        if self.waits_for_the_old_one(out) {
            return;
        }
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        let record = rollout.record(now, "done", None);
        let took = super::event::human(record.took.unwrap_or_default());
        let message = format!(
            "{} done: generation {}, {} ready, {took}",
            rollout.kind,
            rollout.to,
            super::event::workers(self.slots.len())
        );
        self.counters.rollouts += 1;
        self.last_rollout = Some(record);
        if let Some(old) = self.serving.replace(rollout.to) {
            let previous = self.previous.replace((old, Rc::clone(&self.policy)));
            if let Some((generation, _)) = previous {
                self.forget(generation, out);
            }
        }
        self.policy = rollout.policy;
        out.push(Action::note(Level::Info, message.clone()));
        self.operations
            .end(now, rollout.op, Outcome::Done(message, warnings), out);
    }

    /// A stop ends the rollout where it stands.
    pub(crate) fn abort_rollout(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        if rollout.on_probation() {
            // The workers that may serve on for a while are its own.
            self.serving = Some(rollout.to);
            self.policy = Rc::clone(&rollout.policy);
        }
        self.last_rollout = Some(rollout.record(now, "aborted", Some(why.to_owned())));
        self.operations
            .end(now, rollout.op, Outcome::Aborted(why.to_owned()), out);
        if let Way::Back(_, asked_by) = rollout.way {
            for op in asked_by {
                self.operations
                    .end(now, op, Outcome::Aborted(why.to_owned()), out);
            }
        }
    }

    pub(crate) fn end_of_rollout(&mut self) {
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.emptied_for_new = false;
            if slot.current.is_some() {
                self.timers.clear(Timer::Backoff(index as u32));
            }
        }
    }

    /// Tells whoever waits for the rollout that one more worker of it is ready.
    pub(crate) fn progress(&self, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let label = format!("{} ready", worker.label());
        if let (Some(rollout), Mode::Running) = (&self.rollout, &self.mode) {
            let target = match rollout.way {
                Way::Forward => rollout.to,
                // What the other one has ready, it tells.
                Way::Beside => return,
                Way::Back(..) => rollout.from.unwrap_or(rollout.to),
            };
            let is_one = |id: Option<WorkerId>| {
                self.worker(id)
                    .is_some_and(|worker| worker.generation == target && worker.is_ready())
            };
            let ready = self
                .slots
                .iter()
                .filter(|slot| is_one(slot.current) || is_one(slot.replacement))
                .count();
            out.push(Action::Progress(
                rollout.op,
                ready,
                self.slots.len(),
                label.clone(),
            ));
        }
        let ready = self
            .slots
            .iter()
            .filter(|slot| self.worker(slot.current).is_some_and(Worker::is_ready))
            .count();
        for op in self.scaling.iter().flat_map(|scaling| &scaling.ops) {
            out.push(Action::Progress(
                *op,
                ready,
                self.slots.len(),
                label.clone(),
            ));
        }
        let restart = self
            .slots
            .get(worker.slot as usize)
            .and_then(|slot| slot.restart.as_ref());
        let restart = restart.filter(|restart| restart.old != Some(id));
        out.extend(restart.map(|restart| Action::Progress(restart.op, 1, 1, label)));
    }
}
