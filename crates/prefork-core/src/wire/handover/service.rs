//! The model's [`HandOver`] as JSON has it: one field a line, each with a name that lasts.
//!
//! To hand over one more thing: a field in `model/handover.rs`, a field here, a line in each of the
//! two conversions, and a golden state (`tests/states`) once the format has been released.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::{
    KindName, KnownExit, KnownOperations, Learnt, Moment, Settings, Severity, cause, moment, time,
};
use crate::model::backoff::Backoff;
use crate::model::exit::LastExit;
use crate::model::ids::{Generation, OpId, WorkerId};
use crate::model::policy::Policy;
use crate::model::state::Counters;
use crate::model::state::changes::{DeferredSignals, Retiring, Scaling, SlotsBefore};
use crate::model::state::handover::{HandOver, SlotHandOver};
use crate::model::state::rollout::{RolloutRecord, RolloutResult};
use crate::model::timer::Timer;
use crate::model::worker::{Heartbeat, Phase, Worker};
use crate::wire::operation_id::OpWord;

/// The supervisor, as it is handed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    upgrade: Upgrade,
    serving: u64,
    previous: Option<u64>,
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
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Upgrade {
    op: OpWord,
    to: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Paused {
    op: Option<OpWord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Slot {
    current: Option<u64>,
    down: Option<u64>,
    backoff: (Duration, Duration),
    wait: Duration,
    rests_until: Option<Moment>,
    restarts: u64,
    last_exit: Option<KnownExit>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    Spawning,
    Starting,
    Ready,
    Stopping(Severity),
    Leaderless(Severity),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownWorker {
    id: u64,
    slot: u32,
    generation: u64,
    stage: Stage,
    pid: Option<i32>,
    started_at: Moment,
    ready_at: Option<Moment>,
    asked: bool,
    released_listeners: bool,
    failure: Option<String>,
    heartbeat_timeout: Option<Duration>,
    last_beat: Option<Moment>,
    excused_until: Option<Moment>,
    held: bool,
    start_by: Option<Moment>,
    deadline: Option<Moment>,
    told_at: Option<Moment>,
    killed_for: Option<(String, Duration)>,
    group_looks: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deadline {
    Start(u64),
    ReadyDelay(u64),
    Gone(u64),
    Beat(u64),
    Group(u64),
    Look,
    Listeners,
    Release,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rollout {
    op: OpWord,
    kind: KindName,
    from: Option<u64>,
    to: u64,
    result: String,
    error: Option<String>,
    took: Option<Duration>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scale {
    ops: Vec<OpWord>,
    want: usize,
    before: usize,
    was_paused: bool,
    failures: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Totals {
    spawned: u64,
    readied: u64,
    died: u64,
    failed_starts: u64,
    killed: u64,
    rollouts: u64,
    rolled_back: u64,
}

impl From<&HandOver> for Service {
    fn from(state: &HandOver) -> Self {
        let settings = state.policies.iter();
        let counters = state.counters;
        Service {
            upgrade: Upgrade {
                op: state.upgrade.0.into(),
                to: state.upgrade.1.0,
            },
            serving: state.serving.0,
            previous: state.previous.map(|generation| generation.0),
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
            totals: Totals {
                spawned: counters.spawned,
                readied: counters.readied,
                died: counters.died,
                failed_starts: counters.failed_starts,
                killed: counters.killed,
                rollouts: counters.rollouts,
                rolled_back: counters.rolled_back,
            },
            last_generation: state.last_generation,
            last_worker: state.last_worker,
            readiness: Learnt::from(&state.readiness_memory),
            consecutive_failed_starts: state.consecutive_failed_starts,
            configured: state.configured,
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
        let totals = state.totals;
        Ok(HandOver {
            upgrade: (state.upgrade.op.into(), Generation(state.upgrade.to)),
            serving: Generation(state.serving),
            previous: state.previous.map(Generation),
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
            counters: Counters {
                spawned: totals.spawned,
                readied: totals.readied,
                died: totals.died,
                failed_starts: totals.failed_starts,
                killed: totals.killed,
                rollouts: totals.rollouts,
                rolled_back: totals.rolled_back,
            },
            last_generation: state.last_generation,
            last_worker: state.last_worker,
            readiness_memory: state.readiness.into(),
            consecutive_failed_starts: state.consecutive_failed_starts,
            configured: state.configured,
        })
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
            restarts: slot.restarts,
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
            restarts: slot.restarts,
            last_exit: slot.last_exit.map(LastExit::try_from).transpose()?,
        })
    }
}

/// A worker; None: nothing of it lives.
fn written(worker: &Worker) -> Option<KnownWorker> {
    let stage = match worker.phase {
        Phase::Spawning => Stage::Spawning,
        Phase::Starting => Stage::Starting,
        Phase::Ready => Stage::Ready,
        Phase::Stopping(severity) => Stage::Stopping(severity.into()),
        Phase::Leaderless(severity) => Stage::Leaderless(severity.into()),
        Phase::Gone => return None,
    };
    Some(KnownWorker {
        id: worker.id.0,
        slot: worker.slot,
        generation: worker.generation.0,
        stage,
        pid: worker.pid,
        started_at: worker.started_at.into(),
        ready_at: moment(worker.ready_at),
        asked: worker.asked,
        released_listeners: worker.released_listeners,
        failure: worker.failure.clone(),
        heartbeat_timeout: worker.heartbeat.timeout,
        last_beat: moment(worker.heartbeat.last),
        excused_until: moment(worker.heartbeat.excused_until),
        held: worker.heartbeat.held,
        start_by: moment(worker.start_by),
        deadline: moment(worker.deadline),
        told_at: moment(worker.told_at),
        killed_for: worker
            .killed_for
            .map(|(cause, time)| (cause.name().to_owned(), time)),
        group_looks: worker.group_looks,
    })
}

fn read(
    worker: KnownWorker,
    policies: &BTreeMap<Generation, Rc<Policy>>,
) -> Result<Worker, String> {
    let generation = Generation(worker.generation);
    let policy = policies
        .get(&generation)
        .ok_or_else(|| format!("generation {generation} has no settings"))?;
    Ok(Worker {
        id: WorkerId(worker.id),
        slot: worker.slot,
        generation,
        policy: Rc::clone(policy),
        phase: match worker.stage {
            Stage::Spawning => Phase::Spawning,
            Stage::Starting => Phase::Starting,
            Stage::Ready => Phase::Ready,
            Stage::Stopping(severity) => Phase::Stopping(severity.into()),
            Stage::Leaderless(severity) => Phase::Leaderless(severity.into()),
        },
        pid: worker.pid,
        started_at: worker.started_at.into(),
        ready_at: time(worker.ready_at),
        asked: worker.asked,
        released_listeners: worker.released_listeners,
        failure: worker.failure,
        heartbeat: Heartbeat {
            timeout: worker.heartbeat_timeout,
            last: time(worker.last_beat),
            excused_until: time(worker.excused_until),
            // The last look belongs to the image that made it.
            final_check: false,
            held: worker.held,
        },
        start_by: time(worker.start_by),
        deadline: time(worker.deadline),
        told_at: time(worker.told_at),
        killed_for: worker
            .killed_for
            .map(|(name, time)| Ok::<_, String>((cause(&name)?, time)))
            .transpose()?,
        group_looks: worker.group_looks,
    })
}

/// A timer; None: one that cannot run while an upgrade in place begins.
fn deadline(timer: Timer) -> Option<Deadline> {
    Some(match timer {
        Timer::Start(worker) => Deadline::Start(worker.0),
        Timer::ReadyDelayElapsed(worker) => Deadline::ReadyDelay(worker.0),
        Timer::Gone(worker) => Deadline::Gone(worker.0),
        Timer::Beat(worker) => Deadline::Beat(worker.0),
        Timer::Group(worker) => Deadline::Group(worker.0),
        Timer::Look => Deadline::Look,
        Timer::Listeners => Deadline::Listeners,
        Timer::ReleaseDeadline => Deadline::Release,
        Timer::Canary
        | Timer::Probation
        | Timer::StopDelay
        | Timer::Queues
        | Timer::QueuesLate
        | Timer::Hello
        | Timer::Answer => return None,
    })
}

fn timer(deadline: Deadline) -> Timer {
    match deadline {
        Deadline::Start(worker) => Timer::Start(WorkerId(worker)),
        Deadline::ReadyDelay(worker) => Timer::ReadyDelayElapsed(WorkerId(worker)),
        Deadline::Gone(worker) => Timer::Gone(WorkerId(worker)),
        Deadline::Beat(worker) => Timer::Beat(WorkerId(worker)),
        Deadline::Group(worker) => Timer::Group(WorkerId(worker)),
        Deadline::Look => Timer::Look,
        Deadline::Listeners => Timer::Listeners,
        Deadline::Release => Timer::ReleaseDeadline,
    }
}

impl From<&RolloutRecord> for Rollout {
    fn from(record: &RolloutRecord) -> Self {
        Rollout {
            op: record.op.into(),
            kind: KindName(record.kind),
            from: record.from.map(|generation| generation.0),
            to: record.to.0,
            result: record.result.name().to_owned(),
            error: record.error.clone(),
            took: record.took,
        }
    }
}

impl TryFrom<Rollout> for RolloutRecord {
    type Error = String;

    fn try_from(rollout: Rollout) -> Result<Self, String> {
        let result = RolloutResult::ALL
            .into_iter()
            .find(|result| result.name() == rollout.result);
        Ok(RolloutRecord {
            op: rollout.op.into(),
            kind: rollout.kind.0,
            from: rollout.from.map(Generation),
            to: Generation(rollout.to),
            result: result.ok_or_else(|| format!("unknown result '{}'", rollout.result))?,
            error: rollout.error,
            took: rollout.took,
        })
    }
}

impl From<&Scaling> for Scale {
    fn from(scaling: &Scaling) -> Self {
        let (before, was_paused) = match scaling.before {
            SlotsBefore::Slots(before) => (before, false),
            SlotsBefore::Paused(before) => (before, true),
        };
        Scale {
            ops: scaling.ops.iter().copied().map(OpWord).collect(),
            want: scaling.want,
            before,
            was_paused,
            failures: scaling.failures,
        }
    }
}

impl From<Scale> for Scaling {
    fn from(scale: Scale) -> Self {
        Scaling {
            ops: scale.ops.into_iter().map(OpId::from).collect(),
            want: scale.want,
            before: if scale.was_paused {
                SlotsBefore::Paused(scale.before)
            } else {
                SlotsBefore::Slots(scale.before)
            },
            failures: scale.failures,
        }
    }
}
