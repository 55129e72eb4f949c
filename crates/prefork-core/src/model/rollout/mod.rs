//! From one generation to the next, as a whole: `done`, `rolled-back` or `aborted`, never half.
//!
//! Forward, each slot's new worker is started beside the old one (within `--surge`), takes the slot
//! when it is ready, and only then is the old one told to finish. Back, the same happens the other
//! way round. Either way the rollout ends when no worker of the side that lost still accepts.
//!
//! ```text
//! request ──► pin ──► forward ──► listener_release ──► probation ──► done
//!                        │                                 │
//!                        └────────► rollback ◄─────────────┘
//!                                      └──► listener_release ──► rolled-back
//! ```
//!
//! - [`pin`]: the operation begins, the driver pins the generation;
//! - this file: the rollout begins, fails, is done, is aborted;
//! - [`forward`]: the canary, replacements within `--surge`;
//! - [`rollback`]: the old generation takes its slots again;
//! - [`listener_release`]: workers that were told to finish still hold listeners;
//! - [`listeners`]: a rollout that changes the listeners;
//! - [`probation`]: a rollout that has every slot, and may still be undone.

pub mod forward;
pub mod listener_release;
pub mod listeners;
pub mod pin;
pub mod probation;
pub mod rollback;

use std::rc::Rc;

use super::fact::Fact;
use super::ids::WorkerId;
use super::operation::{OperationKind, Outcome};
use super::policy::Policy;
use super::releases::PinnedRelease;
use super::state::Supervisor;
use super::state::changes::Mode;
use super::state::rollout::{Direction, Pinning, Rollout, RolloutRecord, RolloutResult};
use super::state::slot_sets::SlotSet;
use super::time::Time;
use super::timer::Timer;
use super::turn::Turn;
use super::worker::exit::Death;

impl Supervisor {
    /// Begins a rollout to a generation that is pinned.
    pub(crate) fn begin_rollout(
        &mut self,
        turn: &mut Turn<'_>,
        pinning: Pinning,
        policy: Rc<Policy>,
        mut pinned: PinnedRelease,
    ) {
        let Pinning {
            op,
            kind,
            to,
            is_copy,
        } = pinning;
        let listeners = std::mem::take(&mut pinned.listeners);
        // A rollback deploys nothing either: its release is deployed already.
        let is_deployed = kind != OperationKind::Rollback && !is_copy;
        self.releases
            .begin(to, kind, (pinned, is_deployed), turn.now);
        let (from, slots) = (self.serving, self.slots.len());
        let began = Fact::RolloutBegan {
            op,
            kind,
            from,
            to,
            slots,
        };
        turn.tell_with_progress(began, op, 0, slots);
        for listener in &listeners.added {
            turn.tell(Fact::ListenerAdded(listener.clone()));
        }
        // What went wrong with the old generation says nothing about the new one.
        for slot in self.slots.iter_mut() {
            slot.begin_generation(&policy);
        }
        // A paused service has no worker that a canary could protect.
        let has_worker = self.slots.iter().any(|slot| slot.current.is_some());
        let replaces = has_worker || self.peer.is_some();
        let rollout = Rollout::new(pinning, (from, replaces), policy, turn.now);
        self.rollout = Some(Rollout {
            listeners,
            ..rollout
        });
    }

    /// The next steps of the rollout under way.
    pub(crate) fn settle_rollout(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = &self.rollout else { return };
        match rollout.direction {
            Direction::Forward => self.roll_forward(turn),
            Direction::Back(..) => self.roll_back(turn),
            Direction::Peer => {}
        }
    }

    /// A worker died by itself during a rollout. True if it was the rollout's business alone.
    pub(crate) fn death_in_rollout(&mut self, turn: &mut Turn<'_>, death: &Death<'_>) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let generation = death.worker.generation;
        match rollout.direction {
            Direction::Forward if generation == rollout.to => {
                self.death_of_new(turn, death);
                true
            }
            Direction::Back(..) if Some(generation) == rollout.from => {
                if let Some(slot) = self.slots.get_mut(death.worker.slot as usize) {
                    slot.rollback_failures += 1;
                }
                false
            }
            // A worker of the generation that is being left: the rollback does not need it.
            Direction::Back(..) if generation == rollout.to => true,
            Direction::Forward | Direction::Back(..) | Direction::Peer => false,
        }
    }

    /// A new worker died by itself, however long it had been ready: one too many turns the rollout
    /// back, and the death of a canary that had been ready is one too many.
    fn death_of_new(&mut self, turn: &mut Turn<'_>, death: &Death<'_>) {
        let probation = self.ends_probation(death);
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        rollout.failures += 1;
        let (exit, failures, limit) = (death.exit, rollout.failures, rollout.policy.start_failures);
        let plural = if failures == 1 { "" } else { "s" };
        let why = match probation {
            _ if death.fatal => format!("{exit}, and that exit code is fatal"),
            Some(why) => why,
            None if death.was_canary => format!("{exit}, and it was the canary"),
            None if failures < limit => return,
            None if death.worker.ready_at.is_some() => {
                format!("{exit} ({failures} new worker{plural} died, the limit)")
            }
            None => format!("{exit} ({failures} failed start{plural}, the limit)"),
        };
        self.rollout_failed(turn, why);
    }

    /// Turns a rollout back. The first one has nothing to go back to, and ends the master.
    pub(crate) fn rollout_failed(&mut self, turn: &mut Turn<'_>, why: String) {
        if self.new_master_backs_out(turn, &why, None) {
            return;
        }
        let Some(rollout) = &self.rollout else { return };
        let (op, kind, to) = (rollout.op, rollout.kind, rollout.to);
        if rollout.from.is_none() {
            let error = Some(why.clone());
            let rollout = rollout.clone();
            self.tell_given_up(turn, &rollout, &why);
            self.end_record(turn.now, &rollout, RolloutResult::RolledBack, error);
            self.rollout = None;
            // An old master beside this one counts it.
            self.counters.rolled_back += u64::from(self.peer.is_none());
            turn.end(&mut self.operations, op, Outcome::Failed(why.clone()));
            self.stop_because(turn, format!("the first rollout failed: {why}"));
            return;
        }
        turn.tell(Fact::RollingBack {
            kind,
            to,
            why: why.clone(),
        });
        self.begin_rollback(turn, why, None);
    }

    /// Every slot is of the new generation, and no old worker accepts any more.
    pub(crate) fn rollout_done(&mut self, turn: &mut Turn<'_>, warnings: Vec<String>) {
        if self.awaits_old_master_exit(turn) {
            return;
        }
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        self.close_removed_listeners(turn, &rollout);
        let record = self.end_record(turn.now, &rollout, RolloutResult::Done, None);
        let done = Fact::RolloutDone {
            op: rollout.op,
            kind: rollout.kind,
            from: rollout.from.or(self.generation_of_old_master()),
            to: rollout.to,
            slots: self.slots.len(),
            took: record.took.unwrap_or_default(),
        };
        self.counters.rollouts += 1;
        let old = self.serving.replace(rollout.to);
        let old = old.map(|old| (old, Rc::clone(&self.policy)));
        for generation in self.releases.serves(rollout.to, old) {
            self.forget(turn, generation);
        }
        self.policy = rollout.policy;
        let text = if rollout.kind == OperationKind::Rollback {
            self.what_serves()
        } else {
            done.to_string()
        };
        let outcome = Outcome::Done(text, warnings);
        turn.tell(done);
        turn.end(&mut self.operations, rollout.op, outcome);
    }

    /// What a rollback says at its end.
    pub(crate) fn what_serves(&self) -> String {
        let serving = self.serving.map(|serving| self.releases.name(serving));
        format!("rolled back: {} serves", serving.unwrap_or_default())
    }

    /// How the rollout ended is what is known of it from now on.
    pub(crate) fn end_record(
        &mut self,
        now: Time,
        rollout: &Rollout,
        result: RolloutResult,
        error: Option<String>,
    ) -> RolloutRecord {
        let record = rollout.record(now, result, error.clone());
        let took = record.took.unwrap_or_default();
        self.releases.end(rollout.to, took, result, error);
        self.last_rollout = Some(record.clone());
        record
    }

    /// A stop ends the rollout where it stands.
    pub(crate) fn abort_rollout(&mut self, turn: &mut Turn<'_>, why: &str) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        self.end_of_rollout();
        if rollout.on_probation() {
            // The workers that may serve on for a while are its own.
            self.serving = Some(rollout.to);
            self.policy = Rc::clone(&rollout.policy);
            self.close_removed_listeners(turn, &rollout);
        }
        let error = Some(why.to_owned());
        self.tell_given_up(turn, &rollout, why);
        self.end_record(turn.now, &rollout, RolloutResult::Aborted, error);
        let asked_by = match rollout.direction {
            Direction::Back(_, asked_by) => asked_by,
            Direction::Forward | Direction::Peer => Vec::new(),
        };
        for op in [rollout.op].into_iter().chain(asked_by) {
            turn.end(&mut self.operations, op, Outcome::Aborted(why.to_owned()));
        }
    }

    /// Tells that the rollout has ended where it stood. A new master beside an old one is silent:
    /// the upgrade by fork is one rollout, and the old master tells its end.
    fn tell_given_up(&self, turn: &mut Turn<'_>, rollout: &Rollout, why: &str) {
        if rollout.from.is_none() && self.peer.is_some() {
            return;
        }
        turn.tell(Fact::RolloutGivenUp {
            op: rollout.op,
            kind: rollout.kind,
            from: rollout.from,
            to: rollout.to,
            why: why.to_owned(),
        });
    }

    /// What a rollout leaves in slots and timers goes with it.
    pub(crate) fn end_of_rollout(&mut self) {
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        for slot in self.slots.iter_mut() {
            slot.given_to_new = false;
            if slot.current.is_some() {
                slot.rests_until = None;
            }
        }
    }

    /// A worker became ready: every operation that waits for it went a step on.
    pub(crate) fn progress(&self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let slots = self.slots.len();
        let text = format!("{} ready", worker.label());
        if let (Some(rollout), Mode::Running) = (&self.rollout, &self.mode) {
            let target = match rollout.direction {
                Direction::Forward => rollout.to,
                // The other master reports what it has ready.
                Direction::Peer => return,
                Direction::Back(..) => rollout.from.unwrap_or(rollout.to),
            };
            let ready = self.count_slots(SlotSet::HasReady(target));
            turn.progress(rollout.op, ready, slots, text.clone());
        }
        if let Some(scaling) = &self.scaling {
            let ready = self.count_slots(SlotSet::Ready);
            for op in &scaling.ops {
                turn.progress(*op, ready, slots, text.clone());
            }
        }
        let slot = self.slots.get(worker.slot as usize);
        let restart = slot.and_then(|slot| slot.restart.as_ref());
        if let Some(restart) = restart.filter(|restart| restart.old != Some(id)) {
            turn.progress(restart.op, 1, 1, text);
        }
    }
}
