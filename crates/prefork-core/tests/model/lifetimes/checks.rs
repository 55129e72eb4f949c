//! The invariants of a lifetime.

use std::collections::BTreeSet;

use prefork_core::model::event::Event;
use prefork_core::model::ids::{Generation, OpId, WorkerId};
use prefork_core::model::operation::Outcome;
use prefork_core::model::state::rollout::RolloutResult;
use prefork_core::model::state::snapshot::{ServiceState, SlotState, SlotView};

use super::super::render;
use super::world::{Check, World, on_probation};

impl World {
    /// Checks that no rollout ends half done.
    pub(super) fn finished(&mut self, op: OpId, outcome: &Outcome) -> Check {
        self.open.remove(&op);
        if !self.ended.insert(op) {
            return Err(format!("operation {op} ends twice"));
        }
        let snapshot = self.supervisor.snapshot();
        let Some(rollout) = snapshot.rollout.filter(|rollout| rollout.op == op) else {
            return Ok(());
        };
        // An operation that waited may have begun in the same step.
        if snapshot.state != ServiceState::Running {
            return Ok(());
        }
        let holders = || {
            snapshot
                .slots
                .iter()
                .filter_map(|view| view.generation.map(|generation| (view.slot, generation)))
        };
        match outcome {
            Outcome::Done(..) => {
                let strangers: Vec<(u32, Generation)> = holders()
                    .filter(|(_, generation)| *generation != rollout.to)
                    .collect();
                let empty = snapshot.slots.iter().any(|view| view.worker.is_none());
                if empty || !strangers.is_empty() || snapshot.generation != rollout.to {
                    return Err(format!("operation {op} is done and half: {strangers:?}"));
                }
            }
            Outcome::RolledBack(why) => {
                for (slot, _) in holders().filter(|(_, generation)| *generation == rollout.to) {
                    let named = why
                        .rsplit("in slot")
                        .next()
                        .is_some_and(|slots| slots.contains(&slot.to_string()));
                    if !named {
                        return Err(format!(
                            "operation {op} is rolled back, and slot {slot} is not: {why}"
                        ));
                    }
                }
            }
            Outcome::Failed(_) | Outcome::Aborted(_) | Outcome::Lost(_) => {}
        }
        Ok(())
    }

    /// Checks that a step leaves nothing to do: a second step at the same time has no actions.
    fn is_settled(&self) -> Check {
        if self.supervisor.deadline().is_some_and(|at| at <= self.now) {
            return Ok(());
        }
        let mut again = Vec::new();
        self.supervisor
            .clone()
            .step(self.now, Event::Due, &mut again);
        match again.first() {
            None => Ok(()),
            Some(action) => Err(format!(
                "only a second look brings: {}",
                render::action(action)
            )),
        }
    }

    /// Checks the invariants about the whole state.
    pub(super) fn check(&mut self, may_lower: bool) -> Check {
        self.is_settled()?;
        self.check_liveness()?;
        if !self.supervisor.sets_are_current() {
            return Err("a set of slots or workers is not what a look at all of them finds".into());
        }
        let snapshot = self.supervisor.snapshot();
        let surges = self.policies.iter();
        let surges = surges.map(|policy| policy.surge.of(snapshot.wanted));
        let surge = surges.clone().max().unwrap_or_default();
        // A held worker (stopped or traced) is not the supervisor's loss.
        let serves = |view: &&SlotView| matches!(view.state, SlotState::Ready | SlotState::Held);
        let ready = snapshot.slots.iter().filter(serves).count();
        let rolls_in_turn = surges.min() == Some(0);
        if !may_lower && !rolls_in_turn && ready < self.ready_before.min(snapshot.wanted) {
            return Err(format!(
                "{} workers were ready, now {ready}, and no request asked for that",
                self.ready_before
            ));
        }
        self.ready_before = ready;
        if snapshot.replacements.len() > surge {
            return Err(format!(
                "{} replacements are under way, the surge is {surge}",
                snapshot.replacements.len()
            ));
        }
        let alive: BTreeSet<WorkerId> = self.processes.keys().copied().collect();
        for worker in self.supervisor.workers() {
            if !alive.contains(&worker.id) && self.exited.is_none() {
                return Err(format!("{:?} is kept and does not live", worker.id));
            }
            if self
                .processes
                .get(&worker.id)
                .is_some_and(|process| process.generation != worker.generation.0)
            {
                return Err(format!("{:?} changed its generation", worker.id));
            }
        }
        if alive.len() > self.supervisor.workers().count() {
            return Err("a process lives that the supervisor does not know".into());
        }
        let settled = snapshot
            .slots
            .iter()
            .all(|view| view.state == SlotState::Ready)
            && snapshot.retiring.is_empty();
        if settled
            && snapshot.state == ServiceState::Running
            && !on_probation(&snapshot)
            && self.open.is_empty()
            && !self.awaits_leftovers
            && snapshot.replacements.is_empty()
        {
            let timed = self.supervisor.workers().any(|worker| worker.is_timed());
            if let Some(at) = self.supervisor.deadline().filter(|_| !timed) {
                return Err(format!(
                    "idle, and still something is waited for in {:?}",
                    at.since(self.now)
                ));
            }
        }
        Ok(())
    }

    /// What was begun is waited for: every worker that was told or starts has a deadline, and every
    /// open operation has something that ends it.
    fn check_liveness(&self) -> Check {
        if self.exited.is_some() {
            return Ok(());
        }
        let next = self.supervisor.deadline();
        for worker in self.supervisor.workers() {
            let by = if worker.is_told() {
                worker.deadline
            } else if worker.is_starting() {
                worker.start_by
            } else {
                continue;
            };
            if by.is_none_or(|by| next.is_none_or(|next| next > by)) {
                return Err(format!(
                    "{:?} ({:?}) has no deadline that is waited for: {by:?}, next {next:?}",
                    worker.id, worker.phase
                ));
            }
        }
        let owned = self.supervisor.owned_operations();
        let ownerless = |op: &&OpId| !owned.contains(op);
        let running = self.supervisor.snapshot().operations;
        let running = running.iter().filter(|known| known.ended.is_none());
        let running: BTreeSet<OpId> = running.map(|known| known.op).collect();
        if let Some(op) = running.iter().chain(&self.open).find(ownerless) {
            return Err(format!("operation {op} runs, and nothing ends it"));
        }
        Ok(())
    }

    /// The generation that is rolled to, forward.
    pub(super) fn rolling_to(&self) -> Option<Generation> {
        let snapshot = self.supervisor.snapshot();
        let rollout = snapshot.rollout?;
        let forward = rollout.result == RolloutResult::Running && rollout.error.is_none();
        forward.then_some(rollout.to)
    }

    /// Whether a slot that was given to this generation has no ready worker of it.
    pub(super) fn has_hole(&self, to: Generation) -> bool {
        let snapshot = self.supervisor.snapshot();
        let serves = |view: &SlotView| {
            let ready = matches!(view.state, SlotState::Ready | SlotState::Held);
            view.generation == Some(to) && ready
        };
        let is_hole = |view: &SlotView| self.given.contains(&view.slot) && !serves(view);
        snapshot.slots.iter().any(is_hole)
    }

    /// While a slot that was given to the new generation has no ready worker of it, no further old
    /// worker is told to finish. `told`: who was, in this step.
    pub(super) fn check_given(
        &mut self,
        before: Option<Generation>,
        had_hole: bool,
        told: &BTreeSet<WorkerId>,
        may_lower: bool,
    ) -> Check {
        let Some(to) = self.rolling_to().filter(|to| before == Some(*to)) else {
            self.given.clear();
            return Ok(());
        };
        let old = self
            .supervisor
            .workers()
            .filter(|worker| worker.generation != to && told.contains(&worker.id));
        let slots: BTreeSet<u32> = old.map(|worker| worker.slot).collect();
        let further = slots.difference(&self.given).next();
        if let Some(slot) = further.filter(|_| had_hole && self.has_hole(to) && !may_lower) {
            return Err(format!(
                "slot {slot} is given to generation {to} while another has no ready worker of it"
            ));
        }
        // What a scale or a stop sends away is given to no one.
        if !may_lower {
            self.given.extend(slots);
        }
        let wanted = self.supervisor.snapshot().wanted;
        self.given.retain(|slot| (*slot as usize) < wanted);
        Ok(())
    }
}
