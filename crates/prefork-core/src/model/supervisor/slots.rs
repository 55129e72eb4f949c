//! Keeping the slots filled: which slot gets a worker now, from which generation, and what a
//! worker's effects mean for its slot.

use std::rc::Rc;

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::{Generation, WorkerId};
use crate::model::policy::{Policy, StopSeverity};
use crate::model::signal::Signal;
use crate::model::state::Supervisor;
use crate::model::state::leftovers::LastLook;
use crate::model::state::rollout::Direction;
use crate::model::state::slot_sets::SlotSet;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::{Effect, Input, Worker};

impl Supervisor {
    /// Every empty slot gets a worker, unless something speaks against it.
    pub(crate) fn fill_slots(&mut self, turn: &mut Turn<'_>) {
        let mut room = self.start_room_beside_peer();
        if room == 0 {
            return;
        }
        for index in self.slots_in(SlotSet::Vacant) {
            if room == 0 {
                break;
            }
            if self.peer_owns_slot(index) {
                continue;
            }
            let Some((generation, policy)) = self.generation_for_empty_slot(index) else {
                continue;
            };
            let slot = &mut self.slots[index];
            // A replacement of the right generation that starts already takes the slot at once,
            // even where the worker that had it would not be started again.
            let starts_already = slot.replacement.filter(|id| {
                self.workers
                    .get(id)
                    .is_some_and(|worker| worker.generation == generation)
            });
            if starts_already.is_some() {
                slot.current = slot.replacement.take();
            } else if slot.rests_until.is_none() && slot.down != Some(generation) {
                let worker = self.start_worker(turn, index, generation, policy);
                self.slots[index].current = Some(worker);
                room -= 1;
            }
        }
    }

    /// The generation that an empty slot is filled from now. During a rollout: the old one until
    /// the canary has passed, then the new one. None: no worker now (the first rollout waits for
    /// its canary).
    pub(crate) fn generation_for_empty_slot(
        &self,
        index: usize,
    ) -> Option<(Generation, Rc<Policy>)> {
        let old = self
            .serving
            .map(|generation| (generation, Rc::clone(&self.policy)));
        let Some(rollout) = &self.rollout else {
            return old;
        };
        let new = Some((rollout.to, Rc::clone(&rollout.policy)));
        match rollout.direction {
            Direction::Back(..) | Direction::Peer => return old,
            Direction::Forward => {}
        }
        let slot = self.slots.get(index);
        let vacated = slot.is_some_and(|slot| slot.given_to_new);
        let is_canary = index == 0;
        // The old generation had a fatal exit in the canary's slot: no worker of it starts there
        // again, and without a worker there the rollout would wait for ever.
        let old_is_down = slot.is_some_and(|slot| slot.down.is_some() && slot.down == rollout.from);
        if rollout.canary_passed || vacated || (is_canary && old_is_down) {
            return new;
        }
        match rollout.from {
            Some(_) => old,
            None if is_canary => new,
            None => None,
        }
    }

    /// Asks the driver for a worker.
    pub(crate) fn start_worker(
        &mut self,
        turn: &mut Turn<'_>,
        index: usize,
        generation: Generation,
        policy: Rc<Policy>,
    ) -> WorkerId {
        self.counters.spawned += 1;
        let worker = self.next_worker_id();
        let slot = index as u32;
        if let Some(timeout) = policy.start_timeout {
            self.timers.set(Timer::Start(worker), turn.now + timeout);
        }
        let known = Worker::new(worker, slot, generation, policy, turn.now);
        self.workers.insert(known);
        turn.act(Action::Spawn {
            worker,
            slot,
            generation,
        });
        worker
    }

    /// Tells a worker to finish.
    pub(crate) fn request_stop(
        &mut self,
        turn: &mut Turn<'_>,
        worker: WorkerId,
        severity: StopSeverity,
        why: StopReason,
    ) {
        self.feed(turn, worker, Input::Stop(severity, why));
    }

    /// The service stops: tells every worker to finish.
    pub(crate) fn request_stop_of_all(&mut self, turn: &mut Turn<'_>, severity: StopSeverity) {
        for worker in self.workers.ids() {
            self.request_stop(turn, worker, severity, StopReason::Stop);
        }
    }

    /// Why a worker is told to finish whose slot gets another one.
    fn why_replaced(&self) -> StopReason {
        match &self.rollout {
            None => StopReason::Restart,
            Some(rollout) if rollout.direction.is_back() => StopReason::RollingBack,
            Some(rollout) => StopReason::Rollout(rollout.kind, rollout.to),
        }
    }

    /// The replacement takes the slot; the worker that had it is told to finish.
    pub(crate) fn promote(&mut self, turn: &mut Turn<'_>, index: usize) {
        let why = self.why_replaced();
        let slot = &mut self.slots[index];
        let Some(replacement) = slot.replacement.take() else {
            return;
        };
        if let Some(old) = slot.current.replace(replacement) {
            self.request_stop(turn, old, StopSeverity::Graceful, why);
        }
    }

    /// `--surge 0`: the current worker is told to finish, and no other starts in its slot before it
    /// is gone.
    pub(crate) fn vacate_slot(&mut self, turn: &mut Turn<'_>, index: usize) {
        let why = self.why_replaced();
        let slot = &mut self.slots[index];
        slot.given_to_new = true;
        slot.forgive();
        let old = slot.current.take();
        slot.blocked_by = old;
        if let Some(old) = old {
            self.request_stop(turn, old, StopSeverity::Graceful, why);
        }
    }

    /// Hands an input to one worker and acts on the effects.
    pub(crate) fn feed(&mut self, turn: &mut Turn<'_>, id: WorkerId, input: Input) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        let mut effects = Vec::new();
        let must_notify = self
            .readiness_memory
            .requires_notification(worker.generation);
        self.change_worker(id, |worker| {
            worker.handle(turn.now, input, must_notify, &mut effects);
        });
        for effect in effects {
            match effect {
                Effect::Act(action) => {
                    if let Action::Signal(_, Signal::Kill, _) = action {
                        self.counters.killed += 1;
                    }
                    if let Action::Tell(Fact::WorkerUnkillable(worker)) = &action {
                        self.leftovers.abandoned.push(*worker);
                    }
                    turn.act(action);
                }
                Effect::Set(timer, at) => self.timers.set(timer, at),
                Effect::Clear(timer) => self.timers.clear(timer),
                Effect::BecameReady => self.became_ready(turn, id),
                Effect::LeaderGone(exit) => self.leader_gone(turn, id, exit),
                Effect::Gone => {
                    self.timers.clear_worker(id);
                    self.leftovers.last_look = LastLook::Wanted;
                    let slot = self.workers.remove(id).map(|worker| worker.slot as usize);
                    if let Some(slot) = slot.and_then(|slot| self.slots.get_mut(slot)) {
                        slot.blocked_by.take_if(|gone| *gone == id);
                    }
                }
            }
        }
    }

    fn became_ready(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        self.counters.readied += 1;
        // Starts may have failed in this slot before: it can start workers now.
        self.slots.end_rest(worker.slot);
        if let Some(slot) = self.slots.get_mut(worker.slot as usize) {
            slot.down.take_if(|down| *down == worker.generation);
        }
        let after = turn.now.since(worker.started_at);
        turn.tell(Fact::WorkerReady(worker.label(), after));
        self.progress(turn, id);
    }
}
