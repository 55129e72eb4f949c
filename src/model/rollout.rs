//! From one generation to the next, as a whole: `done`, `rolled-back` or `aborted`, never half.
//!
//! Forward, each slot's new worker is started beside the old one (within `--surge`), takes the slot when it is ready, and only then
//! is the old one told to finish. Back, the same happens the other way round. Either way the rollout ends when nobody of
//! the side that lost still accepts.

use std::rc::Rc;
use std::time::Duration;

use super::event::{Action, Generation, Level, OpId, Outcome, WorkerId};
use super::policy::{LET_GO_WITHIN, Policy, Word};
use super::supervisor::{Mode, Pinning, Supervisor};
use super::time::Time;
use super::timer::Timer;
use super::worker::Worker;

/// Which way a rollout goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// To the new generation.
    Forward,
    /// Back to the old one, for this reason; and the operations that asked for that.
    Back(String, Vec<OpId>),
}

/// A rollout under way.
#[derive(Debug, Clone)]
pub(super) struct Rollout {
    pub(super) op: OpId,
    pub(super) kind: &'static str,
    pub(super) from: Option<Generation>,
    pub(super) to: Generation,
    pub(super) policy: Rc<Policy>,
    pub(super) way: Way,
    pub(super) canary_past: bool,
    pub(super) began: Time,
    failures: u32,
    settled_at: Option<Time>,
}

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its operation.
    pub op: OpId,
    /// `start`, `reload` or `rollback`.
    pub kind: &'static str,
    /// The generation that served before; None for the first rollout.
    pub from: Option<Generation>,
    /// The generation that it rolled to.
    pub to: Generation,
    /// `running`, `done`, `rolled-back` or `aborted`.
    pub result: &'static str,
    /// Why it was not done.
    pub error: Option<String>,
    /// How long it took; None while it runs.
    pub took: Option<Duration>,
}

/// Whether a wait for workers to let go of the listeners is over.
pub(super) enum LetGo {
    Waiting,
    Over(Vec<String>),
}

impl Rollout {
    fn record(&self, now: Time, result: &'static str, error: Option<String>) -> Record {
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
    pub(super) fn running(&self) -> Record {
        let error = match &self.way {
            Way::Forward => None,
            Way::Back(why, _) => Some(why.clone()),
        };
        self.record(self.began, "running", error)
    }
}

impl Supervisor {
    /// Begins a rollout to a generation that is pinned.
    pub(super) fn begin_rollout(
        &mut self,
        now: Time,
        pinning: Pinning,
        policy: Rc<Policy>,
        out: &mut Vec<Action>,
    ) {
        let Pinning { op, kind, to } = pinning;
        let from = self.serving;
        let text = match from {
            Some(from) => format!("{kind}: from generation {from} to {to}"),
            None => format!("{kind}: generation {to}, {} workers", self.slots.len()),
        };
        out.push(Action::note(Level::Info, text.clone()));
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
        });
    }

    /// What an empty slot is filled from now: during a rollout from the old generation until the canary is past, then from the
    /// new one. None: not now (the first rollout waits for its canary).
    pub(super) fn filler(&self, index: usize) -> Option<(Generation, Rc<Policy>)> {
        let old = self
            .serving
            .map(|generation| (generation, Rc::clone(&self.policy)));
        let Some(rollout) = &self.rollout else {
            return old;
        };
        let new = Some((rollout.to, Rc::clone(&rollout.policy)));
        match rollout.way {
            Way::Back(..) => old,
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

    /// Whether this worker is the canary and has not been ready for long enough.
    pub(super) fn is_canary_on_trial(&self, id: WorkerId) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let of_new = self
            .workers
            .get(&id)
            .is_some_and(|worker| worker.generation == rollout.to);
        rollout.way == Way::Forward && !rollout.canary_past && of_new
    }

    /// The next steps of the rollout under way.
    pub(super) fn settle_rollout(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(rollout) = &self.rollout else { return };
        match rollout.way {
            Way::Forward => self.roll_forward(now, out),
            Way::Back(..) => self.roll_back(now, out),
        }
    }

    fn roll_forward(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(rollout) = &self.rollout else { return };
        let (to, policy, past) = (rollout.to, Rc::clone(&rollout.policy), rollout.canary_past);
        let slots = self.slots.len();
        let surge = policy.surge.of(slots);
        let reach = if past { slots } else { slots.min(1) };
        let is_old = |worker: &Worker| worker.generation != to;
        if surge == 0 {
            self.empty_next_slot(now, reach, is_old, out);
            // It may be that nobody is left who must go first.
        } else {
            self.start_replacements(now, reach, surge, is_old, (to, policy), out);
            let ready = |worker: Option<&Worker>| {
                worker.is_some_and(|w| w.generation == to && w.is_ready())
            };
            let all_ready = self.slots.iter().all(|slot| {
                ready(self.worker(slot.holder)) || ready(self.worker(slot.replacement))
            });
            // `--surge 100%`: nobody is told anything before all new ones are ready.
            if past && (surge < slots || all_ready) {
                self.promote_ready(now, to, out);
            }
        }
        let settled = past
            && self.slots.iter().all(|slot| {
                self.worker(slot.holder)
                    .is_some_and(|worker| worker.generation == to && worker.is_ready())
            });
        if let Some(warnings) = self.let_go_of_rollout(now, settled, is_old, out) {
            self.rollout_done(now, warnings, out);
        }
    }

    /// The canary is past once the first new worker has been ready for long enough.
    pub(super) fn judge_canary(&mut self, now: Time) {
        let Some(rollout) = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.way == Way::Forward)
        else {
            return;
        };
        let (Some(trial), false) = (rollout.policy.canary, rollout.canary_past) else {
            return;
        };
        let to = rollout.to;
        let ready_at = self.slots.first().map(|slot| {
            let newcomer = [slot.replacement, slot.holder].into_iter().find_map(|id| {
                self.worker(id)
                    .filter(|worker| worker.generation == to && worker.is_ready())
            });
            newcomer.and_then(|worker| worker.ready_at)
        });
        let past = match ready_at {
            None => true, // no slot, no canary
            Some(None) => false,
            Some(Some(at)) => {
                self.timers.set(Timer::Canary, at + trial);
                now >= at + trial
            }
        };
        if past {
            self.timers.clear(Timer::Canary);
            if let Some(rollout) = &mut self.rollout {
                rollout.canary_past = true;
            }
        }
    }

    /// Starts replacements for slots whose holder `must_go`, at most `surge` at once, lowest slot first.
    fn start_replacements(
        &mut self,
        now: Time,
        reach: usize,
        surge: usize,
        must_go: impl Fn(&Worker) -> bool,
        (generation, policy): (Generation, Rc<Policy>),
        out: &mut Vec<Action>,
    ) {
        let mut extra = self
            .slots
            .iter()
            .filter(|slot| slot.replacement.is_some())
            .count();
        for index in 0..reach {
            let slot = &self.slots[index];
            let needed = slot.replacement.is_none()
                && slot.down != Some(generation)
                && self.worker(slot.holder).is_some_and(&must_go)
                && !self.rests(index);
            if needed && extra < surge {
                let worker = self.start_worker(now, index, generation, Rc::clone(&policy), out);
                self.slots[index].replacement = Some(worker);
                extra += 1;
            }
        }
    }

    /// Ready replacements of this generation take their slots; their predecessors are told to finish.
    fn promote_ready(&mut self, now: Time, generation: Generation, out: &mut Vec<Action>) {
        for index in 0..self.slots.len() {
            let ready = self
                .worker(self.slots[index].replacement)
                .is_some_and(|worker| worker.generation == generation && worker.is_ready());
            if ready {
                self.promote(now, index, out);
            }
        }
    }

    /// The replacement takes the slot; whoever held it is told to finish.
    pub(super) fn promote(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        let slot = &mut self.slots[index];
        let Some(replacement) = slot.replacement.take() else {
            return;
        };
        if let Some(old) = slot.holder.replace(replacement) {
            self.tell(now, old, Word::Graceful, out);
        }
    }

    /// `--surge 0`: the next slot whose holder `must_go` is emptied, one at a time; [`Supervisor::fill`] fills it once the
    /// old one is gone.
    fn empty_next_slot(
        &mut self,
        now: Time,
        reach: usize,
        must_go: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) {
        let between = |slot: &super::slot::Slot| {
            slot.after.is_some()
                || (slot.emptied_for_new && !self.worker(slot.holder).is_some_and(Worker::is_ready))
        };
        if self.slots.iter().any(between) {
            return;
        }
        let next =
            (0..reach).find(|index| self.worker(self.slots[*index].holder).is_some_and(&must_go));
        if let Some(index) = next {
            self.empty_slot(now, index, out);
        }
    }

    /// The holder is told to finish, and nobody starts in its slot before it is gone.
    pub(super) fn empty_slot(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        let slot = &mut self.slots[index];
        slot.emptied_for_new = true;
        slot.backoff.reset();
        let old = slot.holder.take();
        slot.after = old;
        self.timers.clear(Timer::Backoff(index as u32));
        if let Some(old) = old {
            self.tell(now, old, Word::Graceful, out);
        }
    }

    fn roll_back(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(Rollout {
            to,
            from: Some(from),
            ..
        }) = self.rollout
        else {
            return;
        };
        let policy = Rc::clone(&self.policy);
        let slots = self.slots.len();
        let surge = policy.surge.of(slots);
        let stuck: Vec<bool> = (0..slots).map(|index| self.is_stuck(index)).collect();
        let is_new = |worker: &Worker| worker.generation == to && !stuck[worker.slot as usize];
        if surge == 0 {
            self.empty_next_slot(now, slots, is_new, out);
        } else {
            self.start_replacements(now, slots, surge, is_new, (from, policy), out);
            self.promote_ready(now, from, out);
        }
        let settled = (0..slots).all(|index| {
            let holder = self.worker(self.slots[index].holder);
            stuck[index]
                || holder.is_some_and(|worker| worker.generation != to && worker.is_ready())
        });
        let is_new = |worker: &Worker| worker.generation == to;
        if let Some(warnings) = self.let_go_of_rollout(now, settled, is_new, out) {
            self.rolled_back(now, warnings, out);
        }
    }

    /// Whether the old generation cannot be brought back in this slot.
    fn is_stuck(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        slot.failed_back >= self.policy.start_failures
            || (slot.down.is_some() && slot.down == self.serving)
    }

    /// Once `settled`, waits for those on the losing side to accept no more; the warnings, when that is over.
    fn let_go_of_rollout(
        &mut self,
        now: Time,
        settled: bool,
        losing: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) -> Option<Vec<String>> {
        let rollout = self.rollout.as_mut()?;
        if !settled {
            // A crash came between: the wait begins anew once all are ready again.
            rollout.settled_at = None;
            return None;
        }
        let since = *rollout.settled_at.get_or_insert(now);
        match self.let_go(now, since, losing, out) {
            LetGo::Waiting => None,
            LetGo::Over(warnings) => Some(warnings),
        }
    }

    /// Waits, [`LET_GO_WITHIN`] at most, until no told worker that `which` picks still accepts.
    pub(super) fn let_go(
        &mut self,
        now: Time,
        since: Time,
        which: impl Fn(&Worker) -> bool,
        out: &mut Vec<Action>,
    ) -> LetGo {
        let holding = self.still_accepting(which);
        if holding.is_empty() {
            return LetGo::Over(Vec::new());
        }
        if now < since + LET_GO_WITHIN {
            // Most go within milliseconds; those that drain are looked at less and less often.
            let pace = Duration::from_millis(5 << self.listener_looks.min(5));
            self.timers.ensure(Timer::Listeners, now + pace);
            self.timers.set(Timer::LetGo, since + LET_GO_WITHIN);
            return LetGo::Waiting;
        }
        let mut warnings = Vec::new();
        for id in holding {
            let Some(worker) = self.workers.get_mut(&id) else {
                continue;
            };
            // Waited for once: what drains for an hour must not hold up every rollout of that hour.
            worker.let_go = true;
            warnings.push(format!(
                "{} was told to finish and still holds a listener after {}: it may still accept",
                worker.label(),
                super::event::human(LET_GO_WITHIN)
            ));
        }
        out.extend(
            warnings
                .iter()
                .map(|text| Action::note(Level::Warn, text.clone())),
        );
        LetGo::Over(warnings)
    }

    /// Has every told worker looked at that is not known to have let go.
    pub(super) fn look_for_listeners(&mut self, out: &mut Vec<Action>) {
        self.listener_looks = self.listener_looks.saturating_add(1);
        out.extend(
            self.still_accepting(|_| true)
                .into_iter()
                .map(Action::LookForListeners),
        );
    }

    /// A failed start during a rollout. True if it was the rollout's business alone.
    pub(super) fn rollout_failed_start(
        &mut self,
        now: Time,
        worker: &Worker,
        obituary: &str,
        fatal: bool,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(rollout) = &mut self.rollout else {
            return false;
        };
        match rollout.way {
            Way::Forward if worker.generation == rollout.to => {
                rollout.failures += 1;
                let (failures, limit) = (rollout.failures, rollout.policy.start_failures);
                if fatal {
                    self.fail_rollout(now, format!("{obituary}, and that exit code is fatal"), out);
                } else if failures >= limit {
                    let plural = if failures == 1 { "" } else { "s" };
                    self.fail_rollout(
                        now,
                        format!("{obituary} ({failures} failed start{plural}, the limit)"),
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
            Way::Forward | Way::Back(..) => false,
        }
    }

    /// Turns a rollout round; the first one, which has nowhere to go back to, ends the master.
    fn fail_rollout(&mut self, now: Time, why: String, out: &mut Vec<Action>) {
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

    /// Rolls a running rollout back.
    pub(super) fn turn_back(
        &mut self,
        now: Time,
        why: String,
        asked_by: Option<OpId>,
        out: &mut Vec<Action>,
    ) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if let Way::Back(_, ops) = &mut rollout.way {
            ops.extend(asked_by);
            return;
        }
        rollout.way = Way::Back(why, asked_by.into_iter().collect());
        rollout.settled_at = None;
        self.listener_looks = 0;
        self.timers.clear(Timer::Canary);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.emptied_for_new = false;
            slot.failed_back = 0;
            slot.backoff.reset();
            let replacement = slot.replacement.take();
            self.timers.clear(Timer::Backoff(index as u32));
            // New ones that hold no slot are not needed: the old ones are still there.
            if let Some(id) = replacement {
                self.tell(now, id, Word::Graceful, out);
            }
        }
    }

    fn rollout_done(&mut self, now: Time, warnings: Vec<String>, out: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        let record = rollout.record(now, "done", None);
        let took = super::event::human(record.took.unwrap_or_default());
        let message = format!(
            "{} done: generation {}, {} workers ready, {took}",
            rollout.kind,
            rollout.to,
            self.slots.len()
        );
        self.counters.rollouts += 1;
        self.last_rollout = Some(record);
        if let Some(old) = self.serving.replace(rollout.to) {
            let previous = self.previous.replace((old, Rc::clone(&self.policy)));
            out.extend(previous.map(|(generation, _)| Action::Forget(generation)));
        }
        self.policy = rollout.policy;
        out.push(Action::note(Level::Info, message.clone()));
        self.operations
            .end(now, rollout.op, Outcome::Done(message, warnings), out);
    }

    fn rolled_back(&mut self, now: Time, warnings: Vec<String>, out: &mut Vec<Action>) {
        let stuck: Vec<String> = (0..self.slots.len())
            .filter(|index| self.is_stuck(*index))
            .map(|index| index.to_string())
            .collect();
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        let Way::Back(mut why, asked_by) = rollout.way.clone() else {
            return;
        };
        if !stuck.is_empty() {
            let from = rollout.from.unwrap_or(rollout.to);
            let slots = stuck.join(", ");
            why.push_str(&format!(
                "; and no worker of generation {from} could be started again in slot {slots}"
            ));
        }
        self.counters.rolled_back += 1;
        self.last_rollout = Some(rollout.record(now, "rolled-back", Some(why.clone())));
        out.push(Action::Forget(rollout.to));
        out.push(Action::note(
            Level::Error,
            format!(
                "{} of generation {}: rolled back: {why}",
                rollout.kind, rollout.to
            ),
        ));
        self.operations
            .end(now, rollout.op, Outcome::RolledBack(why.clone()), out);
        for op in asked_by {
            let outcome = if stuck.is_empty() {
                let text = format!(
                    "rolled back: generation {} serves",
                    self.serving.map_or(0, |serving| serving.0)
                );
                Outcome::Done(text, warnings.clone())
            } else {
                Outcome::Failed(why.clone())
            };
            self.operations.end(now, op, outcome, out);
        }
    }

    /// A stop ends the rollout where it stands.
    pub(super) fn abort_rollout(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
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

    fn end_of_rollout(&mut self) {
        self.timers.clear(Timer::Canary);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.emptied_for_new = false;
            if slot.holder.is_some() {
                self.timers.clear(Timer::Backoff(index as u32));
            }
        }
    }

    /// Tells whoever waits for the rollout that one more worker of it is ready.
    pub(super) fn progress(&self, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let label = format!("{} ready", worker.label());
        if let (Some(rollout), Mode::Running) = (&self.rollout, &self.mode) {
            let target = match rollout.way {
                Way::Forward => rollout.to,
                Way::Back(..) => rollout.from.unwrap_or(rollout.to),
            };
            let is_one = |id: Option<WorkerId>| {
                self.worker(id)
                    .is_some_and(|worker| worker.generation == target && worker.is_ready())
            };
            let ready = self
                .slots
                .iter()
                .filter(|slot| is_one(slot.holder) || is_one(slot.replacement))
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
            .filter(|slot| self.worker(slot.holder).is_some_and(Worker::is_ready))
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
