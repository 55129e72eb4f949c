//! Plain data that describes now.

use super::{Counters, Mode, Supervisor};
use crate::model::event::{Generation, LastExit};
use crate::model::policy::StopSeverity;
use crate::model::rollout::Record;
use crate::model::state::operation::Operation;
use crate::model::state::slots::Slot;
use crate::model::time::Time;
use crate::model::worker::{Phase, Worker};

/// Everything that the supervisor knows, for display.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// `starting`, `running`, `rolling`, `paused` or `stopping`.
    pub state: &'static str,
    /// The generation that serves; before the first is ready, that one.
    pub generation: Generation,
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers that are not ready yet.
    pub starting: usize,
    /// Slots that wait before their next start.
    pub backoff: usize,
    /// One entry a slot.
    pub slots: Vec<SlotView>,
    /// Replacements that hold no slot yet.
    pub replacements: Vec<SlotView>,
    /// Workers that were told to go.
    pub retiring: Vec<SlotView>,
    /// The last rollout.
    pub rollout: Option<Record>,
    /// The last operations, oldest first.
    pub operations: Vec<Operation>,
    /// Totals.
    pub counters: Counters,
}

/// A slot, or a worker that holds none.
#[derive(Debug, Clone)]
pub struct SlotView {
    /// The slot's number.
    pub slot: u32,
    /// The worker, if there is one.
    pub worker: Option<crate::model::event::WorkerId>,
    /// Its pid.
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: Option<Generation>,
    /// `starting`, `ready`, `held`, `stopping`, `backoff`, `down` or `empty`.
    pub state: &'static str,
    /// When it was started.
    pub started_at: Option<Time>,
    /// When it was ready.
    pub ready_at: Option<Time>,
    /// How often the slot's process died by itself.
    pub restarts: u64,
    /// How the slot's previous process ended.
    pub last_exit: Option<LastExit>,
}

impl Supervisor {
    /// Describes now.
    pub fn snapshot(&self) -> Snapshot {
        let slots: Vec<SlotView> = self
            .slots
            .iter()
            .enumerate()
            .map(|(index, slot)| self.seat_of_slot(index, slot))
            .collect();
        let place = |worker: &Worker| self.slots.get(worker.slot as usize);
        let holds =
            |worker: &Worker| place(worker).is_some_and(|slot| slot.current == Some(worker.id));
        let told =
            |worker: &Worker| matches!(worker.phase, Phase::Stopping(_) | Phase::Leaderless(_));
        let seats = |which: &dyn Fn(&Worker) -> bool| -> Vec<SlotView> {
            self.workers
                .values()
                .filter(|worker| !holds(worker) && which(worker))
                .map(|w| self.seat(w))
                .collect()
        };
        Snapshot {
            state: self.state(),
            generation: self.generation(),
            wanted: self.slots.len(),
            ready: slots.iter().filter(|seat| seat.state == "ready").count(),
            starting: self
                .workers
                .values()
                .filter(|worker| worker.is_starting())
                .count(),
            backoff: slots.iter().filter(|seat| seat.state == "backoff").count(),
            replacements: seats(&|worker| !told(worker)),
            retiring: seats(&|worker| told(worker)),
            slots,
            rollout: self
                .rollout
                .as_ref()
                .map(crate::model::rollout::Rollout::running)
                .or_else(|| self.last_rollout.clone()),
            operations: self.operations.all().cloned().collect(),
            counters: self.counters,
        }
    }

    /// The generation that serves, also while it is on probation; before the first is ready, that one.
    pub fn generation(&self) -> Generation {
        self.on_probation()
            .or(self.serving)
            .unwrap_or(Generation(self.last_generation.max(1)))
    }

    /// Whether every slot is ready and nothing is under way that could change that: what `wait --ready` waits for.
    pub fn is_ready(&self) -> bool {
        let ready = |slot: &Slot| self.worker(slot.current).is_some_and(Worker::is_ready);
        matches!(self.mode, Mode::Running)
            && (self.rollout.is_none() || self.on_probation().is_some())
            && self.pinning.is_none()
            && self.slots.iter().all(ready)
    }

    /// Whether the first rollout is done and the service is not going.
    pub fn serves(&self) -> bool {
        self.serving.is_some() && self.stopping().is_none()
    }

    /// How hard the service is stopping, if it is.
    pub fn stopping(&self) -> Option<StopSeverity> {
        match &self.mode {
            Mode::Stopping(stopping) => Some(stopping.word),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => None,
        }
    }

    /// One operation, by its number.
    pub fn operation(&self, op: crate::model::event::OpId) -> Option<&Operation> {
        self.operations.get(op)
    }

    /// The workers that live (for tests and for the driver's bookkeeping).
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub(crate) fn state(&self) -> &'static str {
        match &self.mode {
            Mode::Stopping(_) | Mode::Over => "stopping",
            Mode::Paused(_) => "paused",
            Mode::Idle => "starting",
            Mode::Running if self.serving.is_none() && self.beside.is_some() => "rolling",
            Mode::Running if self.serving.is_none() => "starting",
            Mode::Running if self.on_probation().is_some() => "running",
            Mode::Running if self.rollout.is_some() => "rolling",
            Mode::Running => "running",
        }
    }

    fn seat_of_slot(&self, index: usize, slot: &Slot) -> SlotView {
        if let Some(worker) = self.worker(slot.current) {
            return self.seat(worker);
        }
        let state = if slot.down.is_some() {
            "down"
        } else if self.rests(index) {
            "backoff"
        } else {
            "empty"
        };
        SlotView {
            slot: index as u32,
            worker: None,
            pid: None,
            generation: None,
            state,
            started_at: None,
            ready_at: None,
            restarts: slot.restarts,
            last_exit: slot.last_exit.clone(),
        }
    }

    fn seat(&self, worker: &Worker) -> SlotView {
        let slot = self.slots.get(worker.slot as usize);
        SlotView {
            slot: worker.slot,
            worker: Some(worker.id),
            pid: worker.pid,
            generation: Some(worker.generation),
            state: match worker.phase {
                Phase::Spawning | Phase::Starting => "starting",
                Phase::Ready if worker.is_held() => "held",
                Phase::Ready => "ready",
                Phase::Stopping(_) | Phase::Leaderless(_) | Phase::Gone => "stopping",
            },
            started_at: Some(worker.started_at),
            ready_at: worker.ready_at,
            restarts: slot.map_or(0, |slot| slot.restarts),
            last_exit: slot.and_then(|slot| slot.last_exit.clone()),
        }
    }
}
