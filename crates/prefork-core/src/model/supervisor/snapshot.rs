//! How the state is described: for the status document, for `wait --ready`, for the service
//! manager.

use std::collections::BTreeSet;

use crate::model::counters::SlotTotals;
use crate::model::ids::{Generation, OpId, WorkerId, WorkerLabel};
use crate::model::machines::service_manager::{ServiceStage, ServiceSummary};
use crate::model::operation::{Operation, OperationKind, Operations, Outcome};
use crate::model::peer::PeerSide;
use crate::model::policy::StopSeverity;
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::rollout::{Direction, Rollout};
use crate::model::state::slot_sets::SlotSet;
use crate::model::state::slots::Slot;
use crate::model::state::snapshot::{Role, ServiceState, SlotState, SlotView, Snapshot};
use crate::model::state::workers::WorkerSet;
use crate::model::worker::{Phase, Worker};

impl Supervisor {
    /// How messages name this worker; None: nothing of it lives.
    pub fn label(&self, worker: WorkerId) -> Option<WorkerLabel> {
        self.workers.get(&worker).map(Worker::label)
    }

    /// Describes now.
    pub fn snapshot(&self) -> Snapshot {
        let slots: Vec<SlotView> = self
            .slots
            .iter()
            .enumerate()
            .map(|(index, slot)| self.view_of_slot(index, slot))
            .collect();
        let has_slot = |worker: &Worker| {
            let slot = self.slots.get(worker.slot as usize);
            slot.is_some_and(|slot| slot.current == Some(worker.id))
        };
        let without_slot = |told: bool| -> Vec<SlotView> {
            self.workers
                .values()
                .filter(|worker| !has_slot(worker) && worker.is_told() == told)
                .map(|worker| self.view_of_worker(worker))
                .collect()
        };
        let count = |state| slots.iter().filter(|view| view.state == state).count();
        Snapshot {
            state: self.service_state(),
            generation: self.generation(),
            wanted: self.slots.len(),
            ready: count(SlotState::Ready),
            starting: self.workers.count(WorkerSet::Starting),
            backoff: count(SlotState::Backoff),
            replacements: without_slot(false),
            retiring: without_slot(true),
            rollout: self
                .rollout
                .as_ref()
                .map(Rollout::running)
                .or_else(|| self.last_rollout.clone()),
            operations: self.operations.all().cloned().collect(),
            counters: self.counters,
            slots,
        }
    }

    /// The generation that serves, also while it is on probation; before the first is ready, that
    /// one.
    pub fn generation(&self) -> Generation {
        let elsewhere = self.peer.as_ref().and_then(|peer| peer.handed_over);
        self.on_probation()
            .or(elsewhere.filter(|_| self.why_it_only_drains().is_some()))
            .or(self.serving)
            .unwrap_or(Generation(self.last_generation.max(1)))
    }

    /// Whether every slot is ready and nothing is under way that could change that: what
    /// `wait --ready` waits for.
    pub fn is_ready(&self) -> bool {
        let is_running = match self.mode {
            Mode::Running => true,
            Mode::Idle | Mode::Paused(_) | Mode::Stopping(_) | Mode::Over => false,
        };
        is_running
            && (self.rollout.is_none() || self.on_probation().is_some())
            && self.pinning.is_none()
            && self.all_slots_in(SlotSet::Ready)
            && self.why_it_only_drains().is_none()
    }

    /// Whether the first rollout is done and the service is not going.
    pub fn serves(&self) -> bool {
        self.serving.is_some() && self.stopping().is_none()
    }

    /// How hard the service is stopping, if it is.
    pub fn stopping(&self) -> Option<StopSeverity> {
        self.mode.stopping().map(|stopping| stopping.severity)
    }

    /// One operation, if it is remembered.
    pub fn operation(&self, op: OpId) -> Option<&Operation> {
        self.operations.get(op)
    }

    /// The operations that are remembered.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Whether an operation that is not remembered is one of a master that has died.
    pub fn is_of_dead_master(&self, op: OpId) -> bool {
        self.operations.is_of_dead_master(op)
    }

    /// Why the slots of this master will never all be ready, if so.
    pub fn why_never_ready(&self) -> Option<String> {
        match self.mode {
            Mode::Stopping(_) | Mode::Over => Some("the service is stopping".to_owned()),
            Mode::Idle | Mode::Running | Mode::Paused(_) => self.why_it_only_drains(),
        }
    }

    /// The operations that something under way is going to end. One that runs and is not among them
    /// would run for ever.
    pub fn owned_operations(&self) -> BTreeSet<OpId> {
        let rollout = self.rollout.iter().flat_map(|rollout| {
            let asked_by = match &rollout.direction {
                Direction::Back(_, asked_by) => asked_by.as_slice(),
                Direction::Forward | Direction::Peer => &[],
            };
            asked_by.iter().copied().chain([rollout.op])
        });
        let pinning = self.pinning.iter().map(|pinning| pinning.op);
        let restarts = self.slots.iter().filter_map(|slot| slot.restart.as_ref());
        let scaling = self.scaling.iter().flat_map(|scaling| &scaling.ops);
        let retiring = self.retiring.iter().map(|retiring| retiring.op);
        let mode = match &self.mode {
            Mode::Paused(Some(op)) => std::slice::from_ref(op),
            Mode::Stopping(stopping) => &stopping.ops,
            Mode::Idle | Mode::Running | Mode::Paused(None) | Mode::Over => &[],
        };
        rollout
            .chain(pinning)
            .chain(restarts.map(|restart| restart.op))
            .chain(scaling.copied())
            .chain(retiring)
            .chain(mode.iter().copied())
            .collect()
    }

    /// The workers that live.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Which part this master has.
    pub fn role(&self) -> Role {
        match self.peer.as_ref().map(|peer| peer.side) {
            None => Role::Master,
            Some(PeerSide::Old) => Role::Old,
            Some(PeerSide::New) => Role::New,
        }
    }

    /// What the service is about.
    pub fn service_state(&self) -> ServiceState {
        match &self.mode {
            Mode::Stopping(_) | Mode::Over => ServiceState::Stopping,
            Mode::Running | Mode::Paused(_) if self.why_it_only_drains().is_some() => {
                ServiceState::Stopping
            }
            Mode::Paused(_) => ServiceState::Paused,
            Mode::Idle => ServiceState::Starting,
            Mode::Running if self.serving.is_none() && self.peer.is_some() => ServiceState::Rolling,
            Mode::Running if self.serving.is_none() => ServiceState::Starting,
            Mode::Running if self.on_probation().is_some() => ServiceState::Running,
            Mode::Running if self.rollout.is_some() => ServiceState::Rolling,
            Mode::Running => ServiceState::Running,
        }
    }

    fn view_of_slot(&self, index: usize, slot: &Slot) -> SlotView {
        if let Some(worker) = self.worker(slot.current) {
            return self.view_of_worker(worker);
        }
        let state = if slot.down.is_some() {
            SlotState::Down
        } else if slot.rests_until.is_some() {
            SlotState::Backoff
        } else {
            SlotState::Empty
        };
        SlotView {
            slot: index as u32,
            worker: None,
            pid: None,
            generation: None,
            state,
            started_at: None,
            ready_at: None,
            totals: slot.totals,
            last_exit: slot.last_exit.clone(),
        }
    }

    fn view_of_worker(&self, worker: &Worker) -> SlotView {
        let slot = self.slots.get(worker.slot as usize);
        SlotView {
            slot: worker.slot,
            worker: Some(worker.id),
            pid: worker.pid,
            generation: Some(worker.generation),
            state: match worker.phase {
                Phase::Spawning | Phase::Starting => SlotState::Starting,
                Phase::Ready if worker.is_held() => SlotState::Held,
                Phase::Ready => SlotState::Ready,
                Phase::Stopping(_) | Phase::Leaderless(_) | Phase::Gone => SlotState::Stopping,
            },
            started_at: Some(worker.started_at),
            ready_at: worker.ready_at,
            totals: slot.map_or_else(SlotTotals::default, |slot| slot.totals),
            last_exit: slot.and_then(|slot| slot.last_exit.clone()),
        }
    }

    /// The state that a service manager is told about.
    pub fn service_summary(&self) -> ServiceSummary {
        let under_way = self.rollout.is_some() || self.pinning.is_some();
        let stage = match self.mode {
            Mode::Stopping(_) | Mode::Over => ServiceStage::Stopping,
            Mode::Idle => ServiceStage::Starting,
            Mode::Running | Mode::Paused(_) if self.serving.is_none() => ServiceStage::Starting,
            Mode::Running | Mode::Paused(_) if under_way => ServiceStage::Reloading,
            Mode::Running | Mode::Paused(_) => ServiceStage::Ready,
        };
        let rolled = |to| self.count_slots(SlotSet::HasServing(to));
        ServiceSummary {
            stage,
            state: self.service_state(),
            generation: self.generation(),
            wanted: self.slots.len(),
            ready: self.count_slots(SlotSet::Serves),
            workers: self.workers.len(),
            rollout: self
                .rollout
                .as_ref()
                .map(|rollout| (rollout.kind, rollout.to, rolled(rollout.to))),
            trouble: self.trouble(stage),
        }
    }

    /// What a person would want to know besides the numbers.
    fn trouble(&self, stage: ServiceStage) -> Option<String> {
        match stage {
            ServiceStage::Stopping => {
                let failed_start = || {
                    let first = self.last_rollout.as_ref()?;
                    let why = first.error.as_ref().filter(|_| self.serving.is_none())?;
                    Some(format!("the first rollout failed: {why}"))
                };
                let is_over = match self.mode {
                    Mode::Over => true,
                    Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Stopping(_) => false,
                };
                // Once the stop is over its reason is gone with it, and this one should be seen all
                // the same.
                let reason = self.stop_reason().map(str::to_owned);
                reason.or_else(|| failed_start().filter(|_| is_over))
            }
            ServiceStage::Starting | ServiceStage::Reloading => None,
            ServiceStage::Ready => {
                let last = self
                    .operations
                    .all()
                    .filter(|known| replaces_workers(known.kind))
                    .last()?;
                match last.ended.as_ref().map(|(_, outcome)| outcome) {
                    Some(Outcome::Failed(why) | Outcome::RolledBack(why)) => {
                        Some(format!("the last {} failed: {why}", last.kind))
                    }
                    Some(Outcome::Done(..) | Outcome::Aborted(_) | Outcome::Lost(_)) | None => None,
                }
            }
        }
    }
}

/// Whether such an operation rolls the service to another generation.
fn replaces_workers(kind: OperationKind) -> bool {
    match kind {
        OperationKind::Reload
        | OperationKind::Rollback
        | OperationKind::Upgrade
        | OperationKind::AddFds
        | OperationKind::RemoveListener => true,
        OperationKind::Start
        | OperationKind::Scale
        | OperationKind::Stop
        | OperationKind::Pause
        | OperationKind::Resume
        | OperationKind::RestartWorker
        | OperationKind::Retire
        | OperationKind::Reopen
        | OperationKind::Signal => false,
    }
}
