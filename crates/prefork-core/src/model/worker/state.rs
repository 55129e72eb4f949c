//! What is known of one worker, and what can happen to it, as plain data.

use std::rc::Rc;
use std::time::Duration;

use crate::model::action::Action;
use crate::model::event::WorkerMessage;
use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::{Generation, WorkerId, WorkerLabel};
use crate::model::policy::{Policy, StopSeverity};
use crate::model::time::Time;
use crate::model::timer::Timer;

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its process was asked for; whether its exec succeeded is not known.
    Spawning,
    /// Its program runs, and is not ready.
    Starting,
    /// It may be relied on to serve.
    Ready,
    /// It was told to finish, this hard.
    Stopping(StopSeverity),
    /// Its leader is gone, the rest of its group was told to finish.
    Leaderless(StopSeverity),
    /// Its group is empty (or given up).
    Gone,
}

impl Phase {
    /// Whether it was told to finish, and how hard at most.
    pub fn told(self) -> Option<StopSeverity> {
        match self {
            Phase::Stopping(severity) | Phase::Leaderless(severity) => Some(severity),
            Phase::Spawning | Phase::Starting | Phase::Ready | Phase::Gone => None,
        }
    }

    /// Whether it was told to finish, and something of it lives.
    pub fn is_told(self) -> bool {
        self.told().is_some()
    }

    /// Whether it is on its way to being ready.
    pub fn is_starting(self) -> bool {
        match self {
            Phase::Spawning | Phase::Starting => true,
            Phase::Ready | Phase::Stopping(_) | Phase::Leaderless(_) | Phase::Gone => false,
        }
    }

    /// Whether it may be relied on to serve.
    pub fn is_ready(self) -> bool {
        match self {
            Phase::Ready => true,
            Phase::Spawning
            | Phase::Starting
            | Phase::Stopping(_)
            | Phase::Leaderless(_)
            | Phase::Gone => false,
        }
    }

    /// Whether its leader has ended before its group.
    pub fn is_leaderless(self) -> bool {
        match self {
            Phase::Leaderless(_) => true,
            Phase::Spawning | Phase::Starting | Phase::Ready | Phase::Stopping(_) | Phase::Gone => {
                false
            }
        }
    }
}

/// What can happen to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// There is no process.
    SpawnFailed(String),
    /// Its exec succeeded.
    Executed,
    /// Its exec failed; its leader's end follows.
    ExecFailed(String),
    /// It said something.
    Said(WorkerMessage),
    /// It has lived long enough to count as ready, if nothing else is asked of it.
    ReadyDelayElapsed,
    /// It is not ready, and its start timeout has passed.
    StartOverdue,
    /// The supervisor tells it to finish, for this reason.
    Stop(StopSeverity, StopReason),
    /// It was told, and its time has passed.
    Overdue,
    /// It has not beaten within its timeout, as far as is known.
    BeatOverdue,
    /// The master was late itself: no worker is blamed for silence.
    Pardon,
    /// Whether it is stopped or traced.
    Held(bool),
    /// Whether it is writing its core.
    Dumping(bool),
    /// More drain than `--max-draining`, and it is the oldest.
    OverLimit,
    /// Its leader has ended; whether its group has other members.
    Exited(ExitStatus, bool),
    /// Its group is empty.
    Emptied,
    /// It is time to look whether its group is empty.
    LookAtGroup,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something to be done.
    Act(Action),
    /// A deadline.
    Set(Timer, Time),
    /// A deadline that does not matter any more.
    Clear(Timer),
    /// It is ready now.
    BecameReady,
    /// Its leader is gone: the slot may be filled again.
    LeaderGone(LastExit),
    /// Nothing of it is left.
    Gone,
}

impl Effect {
    /// Something happened.
    pub(super) fn tell(fact: Fact) -> Effect {
        Effect::Act(Action::Tell(fact))
    }
}

/// What is known of a worker's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// No beat for this long: aborted. None: not timed.
    pub timeout: Option<Duration>,
    /// When the master last saw it beat; None: it never did, so it is exempt.
    pub last: Option<Time>,
    /// It has asked not to be missed before then.
    pub excused_until: Option<Time>,
    /// It is overdue, and was looked at for the last time.
    pub final_check: bool,
    /// It is stopped or traced.
    pub held: bool,
}

/// One worker.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its name.
    pub id: WorkerId,
    /// The slot that it was started for.
    pub slot: u32,
    /// Its generation.
    pub generation: Generation,
    /// Its generation's policy.
    pub policy: Rc<Policy>,
    /// Where it stands.
    pub phase: Phase,
    /// Its pid, a label.
    pub pid: Option<i32>,
    /// When it was asked for.
    pub started_at: Time,
    /// When it became ready.
    pub ready_at: Option<Time>,
    /// It counts as ready because it has lived for a while, and it said nothing.
    pub readiness_guessed: bool,
    /// It said that it stops.
    pub said_stopping: bool,
    /// Whether the supervisor told it to finish (a missed start timeout is not that).
    pub asked: bool,
    /// Whether it accepts no more: it said so, or holds no listener.
    pub released_listeners: bool,
    /// Why it could not be started, or is killed, in words.
    pub failure: Option<String>,
    /// Its heartbeat.
    pub heartbeat: Heartbeat,
    /// When it must be ready.
    pub start_by: Option<Time>,
    /// When it must be gone.
    pub deadline: Option<Time>,
    /// When it was first told to finish.
    pub told_at: Option<Time>,
    /// Why it gets or got KILL, and the time that it had.
    pub killed_for: Option<(Cause, Duration)>,
    /// The kernel killed it for want of memory: its end follows.
    pub out_of_memory: bool,
    /// How often its group was looked at since its leader has ended.
    pub group_looks: u32,
}

impl Worker {
    /// A worker whose process was just asked for.
    pub fn new(
        id: WorkerId,
        slot: u32,
        generation: Generation,
        policy: Rc<Policy>,
        now: Time,
    ) -> Self {
        Worker {
            id,
            slot,
            generation,
            heartbeat: Heartbeat {
                timeout: policy.timeout,
                ..Heartbeat::default()
            },
            start_by: policy.start_timeout.map(|timeout| now + timeout),
            policy,
            phase: Phase::Spawning,
            pid: None,
            started_at: now,
            ready_at: None,
            readiness_guessed: false,
            said_stopping: false,
            asked: false,
            released_listeners: false,
            failure: None,
            deadline: None,
            told_at: None,
            killed_for: None,
            out_of_memory: false,
            group_looks: 0,
        }
    }

    /// Whether it may be relied on to serve.
    pub fn is_ready(&self) -> bool {
        self.phase.is_ready()
    }

    /// Whether it is on its way to being ready.
    pub fn is_starting(&self) -> bool {
        self.phase.is_starting()
    }

    /// Whether it was told to finish, and something of it lives.
    pub fn is_told(&self) -> bool {
        self.phase.is_told()
    }

    /// Whether it was told to finish, and may still accept.
    pub fn may_still_accept(&self) -> bool {
        self.is_told() && !self.released_listeners
    }

    /// Whether it was told to finish, and has its time to do so.
    pub fn drains(&self) -> bool {
        let told = self.phase.told();
        self.asked && told.is_some_and(|severity| severity < StopSeverity::Kill)
    }

    /// How messages name it.
    pub fn label(&self) -> WorkerLabel {
        WorkerLabel {
            slot: self.slot,
            pid: self.pid,
            generation: self.generation,
        }
    }
}
