//! A worker and the deadlines as JSON has them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exits::cause;
use super::values::{Moment, Severity, moment, time};
use crate::model::ids::{Generation, WorkerId};
use crate::model::policy::Policy;
use crate::model::timer::Timer;
use crate::model::worker::{Heartbeat, Phase, Worker};

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
pub(super) struct KnownWorker {
    id: u64,
    slot: u32,
    generation: u64,
    stage: Stage,
    pid: Option<i32>,
    started_at: Moment,
    ready_at: Option<Moment>,
    asked: bool,
    #[serde(default)]
    said_stopping: bool,
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
pub(super) enum Deadline {
    Start(u64),
    ReadyDelay(u64),
    Gone(u64),
    Beat(u64),
    Group(u64),
    Look,
    Listeners,
    Release,
    Answer,
}

/// A worker; None: nothing of it lives.
pub(super) fn written(worker: &Worker) -> Option<KnownWorker> {
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
        said_stopping: worker.said_stopping,
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

pub(super) fn read(
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
        // It matters to a canary alone, and no rollout is handed over.
        readiness_guessed: false,
        asked: worker.asked,
        said_stopping: worker.said_stopping,
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
        // Decided and used in one turn.
        out_of_memory: false,
        group_looks: worker.group_looks,
    })
}

/// A timer; None: one that cannot run while an upgrade in place begins.
pub(super) fn deadline(timer: Timer) -> Option<Deadline> {
    Some(match timer {
        Timer::Start(worker) => Deadline::Start(worker.0),
        Timer::ReadyDelayElapsed(worker) => Deadline::ReadyDelay(worker.0),
        Timer::Gone(worker) => Deadline::Gone(worker.0),
        Timer::Beat(worker) => Deadline::Beat(worker.0),
        Timer::Group(worker) => Deadline::Group(worker.0),
        Timer::Look => Deadline::Look,
        Timer::Listeners => Deadline::Listeners,
        Timer::ReleaseDeadline => Deadline::Release,
        Timer::Answer => Deadline::Answer,
        Timer::Canary
        | Timer::Probation
        | Timer::StopDelay
        | Timer::Queues
        | Timer::QueuesLate
        // The next image looks itself.
        | Timer::Leftovers
        | Timer::Hello => return None,
    })
}

pub(super) fn timer(deadline: Deadline) -> Timer {
    match deadline {
        Deadline::Start(worker) => Timer::Start(WorkerId(worker)),
        Deadline::ReadyDelay(worker) => Timer::ReadyDelayElapsed(WorkerId(worker)),
        Deadline::Gone(worker) => Timer::Gone(WorkerId(worker)),
        Deadline::Beat(worker) => Timer::Beat(WorkerId(worker)),
        Deadline::Group(worker) => Timer::Group(WorkerId(worker)),
        Deadline::Look => Timer::Look,
        Deadline::Listeners => Timer::Listeners,
        Deadline::Release => Timer::ReleaseDeadline,
        Deadline::Answer => Timer::Answer,
    }
}
