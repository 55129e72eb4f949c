//! The model's [`HandOver`] as JSON has it: one field a line, each with a name that lasts.
//!
//! To hand over one more thing: a field in `model/handover.rs`, a field here, a line in each of the
//! two conversions, and a golden state (`tests/states`) once the format has been released.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::changes::{Rollout, Scale};
use super::exits::KnownExit;
use super::operations::KnownOperations;
use super::releases::{self, KnownReleases};
use super::totals::Totals;
use super::values::{Learnt, Moment, Settings, moment, time};
use super::worker::{Deadline, KnownWorker, deadline, read, timer, written};
use crate::model::backoff::Backoff;
use crate::model::counters::SlotTotals;
use crate::model::exit::LastExit;
use crate::model::ids::{Generation, OpId, WorkerId};
use crate::model::policy::Policy;
use crate::model::state::changes::{DeferredSignals, Retiring, Scaling};
use crate::model::state::handover::{DrainingMaster, HandOver, SlotHandOver};
use crate::model::state::rollout::RolloutRecord;
use crate::wire::operation_id::OpWord;

/// The supervisor, as it is handed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    upgrade: Upgrade,
    serving: u64,
    /// Of the releases that are kept, the one that served last: all that the format's first version
    /// knew.
    previous: Option<u64>,
    #[serde(default)]
    releases: Option<KnownReleases>,
    settings: BTreeMap<u64, Settings>,
    paused: Option<Paused>,
    slots: Vec<Slot>,
    workers: Vec<KnownWorker>,
    timers: Vec<(Deadline, Moment)>,
    seed: u64,
    last_rollout: Option<Rollout>,
    scaling: Option<Scale>,
    retiring: Vec<(OpWord, u64)>,
    deferred_hup: bool,
    deferred_winch: bool,
    operations: KnownOperations,
    totals: Totals,
    last_generation: u64,
    last_worker: u64,
    readiness: Learnt,
    consecutive_failed_starts: u32,
    configured: usize,
    /// By cgroup. An older image reads no counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    oom_kills: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draining_master: Option<KnownDrainingMaster>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Upgrade {
    op: OpWord,
    to: u64,
    /// The next image pins a copy of the generation that serves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    copy: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Paused {
    op: Option<OpWord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownDrainingMaster {
    pid: i32,
    op: OpWord,
    to: u64,
    manual: bool,
    answers: bool,
    answer_by: Option<Moment>,
    #[serde(default)]
    at_fork: Totals,
    #[serde(default)]
    told: Totals,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Slot {
    current: Option<u64>,
    down: Option<u64>,
    backoff: (Duration, Duration),
    wait: Duration,
    rests_until: Option<Moment>,
    restarts: u64,
    /// Processor time of all its workers.
    #[serde(default)]
    cpu: Duration,
    last_exit: Option<KnownExit>,
}

impl Service {
    /// The next image is to pin a copy of the generation that serves.
    pub fn is_for_copy(&mut self) {
        self.upgrade.copy = true;
    }
}

impl From<&HandOver> for Service {
    fn from(state: &HandOver) -> Self {
        let settings = state.policies.iter();
        Service {
            upgrade: Upgrade {
                op: state.upgrade.0.into(),
                to: state.upgrade.1.0,
                copy: state.is_copy,
            },
            serving: state.serving.0,
            previous: state.releases.kept.last().map(|kept| kept.generation.0),
            releases: Some(KnownReleases::from(&state.releases)),
            settings: settings
                .map(|(generation, policy)| (generation.0, Settings::from(&**policy)))
                .collect(),
            paused: state.paused.map(|op| Paused { op: op.map(OpWord) }),
            slots: state.slots.iter().map(Slot::from).collect(),
            workers: state.workers.iter().filter_map(written).collect(),
            timers: state
                .timers
                .iter()
                .filter_map(|(timer, at)| Some((deadline(*timer)?, (*at).into())))
                .collect(),
            seed: state.seed,
            last_rollout: state.last_rollout.as_ref().map(Rollout::from),
            scaling: state.scaling.as_ref().map(Scale::from),
            retiring: state
                .retiring
                .iter()
                .map(|retiring| (retiring.op.into(), retiring.generation.0))
                .collect(),
            deferred_hup: state.deferred.hup,
            deferred_winch: state.deferred.winch,
            operations: KnownOperations::from(&state.operations),
            totals: Totals::from(&state.counters),
            last_generation: state.last_generation,
            last_worker: state.last_worker,
            readiness: Learnt::from(&state.readiness_memory),
            consecutive_failed_starts: state.consecutive_failed_starts,
            configured: state.configured,
            oom_kills: state.oom_kills.clone(),
            draining_master: state.draining_master.map(KnownDrainingMaster::from),
        }
    }
}

impl TryFrom<Service> for HandOver {
    type Error = String;

    fn try_from(state: Service) -> Result<Self, String> {
        let policies: BTreeMap<Generation, Rc<Policy>> = state
            .settings
            .into_iter()
            .map(|(generation, settings)| (Generation(generation), Rc::new(settings.into())))
            .collect();
        let releases = match state.releases {
            Some(releases) => releases.try_into()?,
            None => releases::before_they_were_known(state.serving, state.previous, &policies),
        };
        Ok(HandOver {
            upgrade: (state.upgrade.op.into(), Generation(state.upgrade.to)),
            is_copy: state.upgrade.copy,
            serving: Generation(state.serving),
            releases,
            paused: state.paused.map(|paused| paused.op.map(OpId::from)),
            slots: state
                .slots
                .into_iter()
                .map(SlotHandOver::try_from)
                .collect::<Result<_, _>>()?,
            workers: state
                .workers
                .into_iter()
                .map(|worker| read(worker, &policies))
                .collect::<Result<_, _>>()?,
            policies,
            timers: state
                .timers
                .into_iter()
                .map(|(deadline, at)| (timer(deadline), at.into()))
                .collect(),
            seed: state.seed,
            last_rollout: state
                .last_rollout
                .map(RolloutRecord::try_from)
                .transpose()?,
            scaling: state.scaling.map(Scaling::from),
            retiring: state
                .retiring
                .into_iter()
                .map(|(op, generation)| Retiring {
                    op: op.into(),
                    generation: Generation(generation),
                })
                .collect(),
            deferred: DeferredSignals {
                hup: state.deferred_hup,
                winch: state.deferred_winch,
            },
            operations: state.operations.into(),
            counters: state.totals.into(),
            last_generation: state.last_generation,
            last_worker: state.last_worker,
            readiness_memory: state.readiness.into(),
            consecutive_failed_starts: state.consecutive_failed_starts,
            configured: state.configured,
            oom_kills: state.oom_kills,
            draining_master: state.draining_master.map(DrainingMaster::from),
        })
    }
}

impl From<DrainingMaster> for KnownDrainingMaster {
    fn from(known: DrainingMaster) -> Self {
        let (op, to) = known.upgrade;
        KnownDrainingMaster {
            pid: known.pid,
            op: op.into(),
            to: to.0,
            manual: known.manual,
            answers: known.answers,
            answer_by: moment(known.answer_by),
            at_fork: Totals::from(&known.counters_at_fork),
            told: Totals::from(&known.counters_told),
        }
    }
}

impl From<KnownDrainingMaster> for DrainingMaster {
    fn from(known: KnownDrainingMaster) -> Self {
        DrainingMaster {
            pid: known.pid,
            upgrade: (known.op.into(), Generation(known.to)),
            manual: known.manual,
            answers: known.answers,
            answer_by: time(known.answer_by),
            counters_at_fork: known.at_fork.into(),
            counters_told: known.told.into(),
        }
    }
}

impl From<&SlotHandOver> for Slot {
    fn from(slot: &SlotHandOver) -> Self {
        Slot {
            current: slot.current.map(|worker| worker.0),
            down: slot.down.map(|generation| generation.0),
            backoff: slot.backoff.bounds(),
            wait: slot.backoff.current(),
            rests_until: moment(slot.rests_until),
            restarts: slot.totals.restarts,
            cpu: slot.totals.cpu,
            last_exit: slot.last_exit.as_ref().map(KnownExit::from),
        }
    }
}

impl TryFrom<Slot> for SlotHandOver {
    type Error = String;

    fn try_from(slot: Slot) -> Result<Self, String> {
        Ok(SlotHandOver {
            current: slot.current.map(WorkerId),
            down: slot.down.map(Generation),
            backoff: Backoff::taken_over(slot.backoff, slot.wait),
            rests_until: time(slot.rests_until),
            totals: SlotTotals {
                restarts: slot.restarts,
                cpu: slot.cpu,
            },
            last_exit: slot.last_exit.map(LastExit::try_from).transpose()?,
        })
    }
}
