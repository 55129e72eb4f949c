//! One worker's state machine: (state, input) to state and effects, every pair written down.
//!
//! ```text
//! Spawning ──exec──► Starting ──says so──► Ready
//!     │                  │                   │
//!     └──── told ────────┴──────── told ─────┴──► Stopping ──leader gone, group not──► Leaderless ──► Gone
//! ```
//!
//! A worker that dies by itself takes the same way out: its group gets KILL at once.

pub mod exit;
pub mod heartbeat;

use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Action, Cause, Ended, Generation, LastExit, Level, Saying, Subject, WorkerId};
use super::policy::{Policy, Readiness, SILENT_READY, StopSeverity};
use super::time::Time;
use super::timer::Timer;
use super::worker::heartbeat::Heartbeat;

/// How long after its leader's end a group is looked at first; then less and less often.
pub(crate) const LOOK_AT_GROUP_AFTER: Duration = Duration::from_millis(20);

/// The most time between two looks at a group.
const LOOK_AT_GROUP_WITHIN: Duration = Duration::from_secs(1);

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its process was asked for; whether its exec succeeded is not known.
    Spawning,
    /// Its program runs, and is not ready.
    Starting,
    /// It may be relied on to serve.
    Ready,
    /// It was told to go, this hard.
    Stopping(StopSeverity),
    /// Its leader is gone, the rest of its group was told to go.
    Leaderless(StopSeverity),
    /// Its group is empty (or given up).
    Gone,
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
    Said(Saying),
    /// It has lived long enough to count as ready, if nothing else is asked of it.
    ReadyDelayElapsed,
    /// It is not ready, and its start timeout has passed.
    StartOverdue,
    /// The supervisor tells it to go.
    Tell(StopSeverity),
    /// It was told, and its time has passed.
    Overdue,
    /// It has not beaten within its timeout, as far as is known.
    BeatOverdue,
    /// The master was late itself: nobody is blamed for silence.
    Pardon,
    /// Whether it is stopped or traced.
    Held(bool),
    /// Whether it is writing its core.
    Dumping(bool),
    /// There are too many that drain, and it is the oldest.
    OverLimit,
    /// Its leader has ended; whether its group has other members.
    Exited(Ended, bool),
    /// Its group is empty.
    Emptied,
    /// Look whether it is.
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

/// One worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Whether the supervisor told it to go (a missed start timeout is not that).
    pub asked: bool,
    /// Whether it accepts no more: it said so, or holds no listener.
    pub let_go: bool,
    /// Why it could not be started, if so.
    pub failure: Option<String>,
    /// Its heartbeat.
    pub(crate) heartbeat: Heartbeat,
    /// When it must be ready.
    pub(crate) start_by: Option<Time>,
    /// When it must be gone.
    pub(crate) deadline: Option<Time>,
    /// When it was first told to go.
    pub(crate) told_at: Option<Time>,
    pub(crate) killed_for: Option<(Cause, Duration)>,
    pub(crate) looked_at_group: u32,
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
            heartbeat: Heartbeat::new(policy.timeout),
            start_by: policy.start_timeout.map(|timeout| now + timeout),
            policy,
            phase: Phase::Spawning,
            pid: None,
            started_at: now,
            ready_at: None,
            asked: false,
            let_go: false,
            failure: None,
            deadline: None,
            told_at: None,
            killed_for: None,
            looked_at_group: 0,
        }
    }

    /// Whether it may be relied on to serve.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether it is on its way to being ready.
    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Spawning | Phase::Starting)
    }

    /// Whether its readiness may come through its heartbeat page.
    pub fn hangs_on_beat(&self) -> bool {
        self.is_starting() && matches!(self.policy.ready, Readiness::Auto | Readiness::Heartbeat)
    }

    /// How it is called in logs and messages.
    pub fn label(&self) -> String {
        match self.pid {
            Some(pid) => format!(
                "slot {}: worker {pid} of generation {}",
                self.slot, self.generation
            ),
            None => format!(
                "slot {}: a worker of generation {}",
                self.slot, self.generation
            ),
        }
    }

    /// A line of the log about this worker.
    pub fn note(&self, level: Level, text: String) -> Action {
        let subject = Subject {
            slot: self.slot,
            pid: self.pid,
            generation: self.generation,
        };
        Action::Note(level, Some(subject), text)
    }

    /// Takes an input. `announces`: some worker of this service has said that it was ready, so silence is not enough.
    pub fn handle(&mut self, now: Time, input: Input, announces: bool, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Spawning => self.spawning(now, input, announces, out),
            Phase::Starting => self.starting(now, input, announces, out),
            Phase::Ready => self.ready(now, input, out),
            Phase::Stopping(word) => self.stopping(now, word, input, out),
            Phase::Leaderless(word) => self.leaderless(now, word, input, out),
            // Whatever comes late (a message read after the end, a timer of the same turn) finds nobody.
            Phase::Gone => {}
        }
    }

    fn spawning(&mut self, now: Time, input: Input, announces: bool, out: &mut Vec<Effect>) {
        match input {
            Input::SpawnFailed(why) => {
                self.failure = Some(why);
                self.end(now, None, false, out);
            }
            Input::Executed => self.executed(now, announces, out),
            Input::ExecFailed(why) => self.failure = Some(why),
            // Its descriptors closed with the child that never became its program.
            Input::Said(_) if self.failure.is_some() => {}
            // Whoever speaks was executed, whether or not the driver has read that yet.
            Input::Said(saying) => {
                self.executed(now, announces, out);
                if self.phase == Phase::Starting {
                    self.said(now, saying, out);
                } else {
                    self.heartbeat_said(now, saying, out);
                }
            }
            Input::StartOverdue => self.start_overdue(now, None, out),
            Input::Tell(word) => self.ask(now, word, out),
            Input::Exited(ended, rest) => self.end(now, Some(ended), rest, out),
            Input::ReadyDelayElapsed
            | Input::Overdue
            | Input::BeatOverdue
            | Input::Pardon
            | Input::Held(_)
            | Input::Dumping(_)
            | Input::OverLimit
            | Input::Emptied
            | Input::LookAtGroup => {}
        }
    }

    fn starting(&mut self, now: Time, input: Input, announces: bool, out: &mut Vec<Effect>) {
        match input {
            Input::Said(saying) => self.said(now, saying, out),
            Input::ReadyDelayElapsed => {
                let silence_is_enough = !(announces && self.policy.ready == Readiness::Auto);
                if silence_is_enough {
                    self.become_ready(now, out);
                }
            }
            Input::StartOverdue => self.start_overdue(now, None, out),
            Input::Tell(word) => self.ask(now, word, out),
            Input::Exited(ended, rest) => self.end(now, Some(ended), rest, out),
            Input::SpawnFailed(_)
            | Input::Executed
            | Input::ExecFailed(_)
            | Input::Overdue
            | Input::BeatOverdue
            | Input::Pardon
            | Input::Held(_)
            | Input::Dumping(_)
            | Input::OverLimit
            | Input::Emptied
            | Input::LookAtGroup => {}
        }
    }

    fn ready(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tell(word) => self.ask(now, word, out),
            Input::Exited(ended, rest) => self.end(now, Some(ended), rest, out),
            Input::Said(saying) => {
                self.let_go |= saying == Saying::Stopping;
                self.heartbeat_said(now, saying, out);
            }
            Input::BeatOverdue => self.beat_overdue(now, out),
            Input::Pardon => self.pardon(now, out),
            Input::Held(held) => self.held(now, held, out),
            Input::SpawnFailed(_)
            | Input::Executed
            | Input::ExecFailed(_)
            | Input::ReadyDelayElapsed
            | Input::StartOverdue
            | Input::Overdue
            | Input::Dumping(_)
            | Input::OverLimit
            | Input::Emptied
            | Input::LookAtGroup => {}
        }
    }

    fn stopping(&mut self, now: Time, word: StopSeverity, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Said(saying) => {
                self.let_go |= saying == Saying::Stopping;
                self.heartbeat_said(now, saying, out);
            }
            Input::Tell(harder) => self.ask(now, harder, out),
            Input::Overdue if word == StopSeverity::Abort => {
                out.push(Effect::Act(Action::LookWhetherDumping(self.id)));
            }
            Input::Overdue => self.overdue(now, word, out),
            Input::Dumping(dumping) => self.dumping(now, dumping, out),
            Input::OverLimit => self.over_limit(now, word, out),
            Input::Exited(ended, rest) => self.end(now, Some(ended), rest, out),
            Input::ExecFailed(why) => self.failure = Some(why),
            Input::SpawnFailed(why) => {
                self.failure = Some(why);
                self.end(now, None, false, out);
            }
            Input::Executed
            | Input::ReadyDelayElapsed
            | Input::StartOverdue
            | Input::BeatOverdue
            | Input::Pardon
            | Input::Held(_)
            | Input::Emptied
            | Input::LookAtGroup => {}
        }
    }

    fn leaderless(&mut self, now: Time, word: StopSeverity, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Emptied => self.gone(out),
            Input::LookAtGroup => {
                out.push(Effect::Act(Action::LookAtGroup(self.id)));
                self.looked_at_group = self.looked_at_group.saturating_add(1);
                let pace = LOOK_AT_GROUP_AFTER.saturating_mul(1 << self.looked_at_group.min(10));
                out.push(Effect::Set(
                    Timer::Group(self.id),
                    now + pace.min(LOOK_AT_GROUP_WITHIN),
                ));
            }
            Input::Tell(harder) => self.ask(now, harder, out),
            Input::Overdue => self.overdue(now, word, out),
            Input::OverLimit => self.over_limit(now, word, out),
            Input::BeatOverdue
            | Input::Pardon
            | Input::Held(_)
            | Input::Dumping(_)
            | Input::Said(_)
            | Input::SpawnFailed(_)
            | Input::Executed
            | Input::ExecFailed(_)
            | Input::ReadyDelayElapsed
            | Input::StartOverdue
            | Input::Exited(..) => {}
        }
    }

    fn executed(&mut self, now: Time, announces: bool, out: &mut Vec<Effect>) {
        self.phase = Phase::Starting;
        match self.policy.ready {
            Readiness::Exec => self.become_ready(now, out),
            Readiness::Delay(delay) => {
                out.push(Effect::Set(Timer::ReadyDelayElapsed(self.id), now + delay))
            }
            Readiness::Auto if !announces => {
                out.push(Effect::Set(
                    Timer::ReadyDelayElapsed(self.id),
                    now + SILENT_READY,
                ));
            }
            Readiness::Auto | Readiness::Notify | Readiness::Heartbeat | Readiness::Fd(_) => {}
        }
    }

    fn said(&mut self, now: Time, saying: Saying, out: &mut Vec<Effect>) {
        let ready = match (self.policy.ready, saying) {
            (Readiness::Auto, Saying::Ready | Saying::Beat)
            | (Readiness::Notify, Saying::Ready)
            | (Readiness::Heartbeat, Saying::Beat)
            | (Readiness::Fd(_), Saying::Newline) => true,
            (Readiness::Fd(fd), Saying::Closed) => {
                let why = format!("it closed its ready fd {fd} without a newline");
                self.start_overdue(now, Some(why), out);
                false
            }
            (
                Readiness::Auto
                | Readiness::Notify
                | Readiness::Heartbeat
                | Readiness::Delay(_)
                | Readiness::Exec
                | Readiness::Fd(_),
                _,
            ) => false,
        };
        self.let_go |= saying == Saying::Stopping;
        self.heartbeat_said(now, saying, out);
        if ready {
            self.become_ready(now, out);
        }
    }

    pub(crate) fn become_ready(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.phase = Phase::Ready;
        self.ready_at = Some(now);
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::BecameReady);
        self.heartbeat_begins(now, out);
    }

    pub(crate) fn start_overdue(&mut self, now: Time, why: Option<String>, out: &mut Vec<Effect>) {
        self.failure = why;
        self.killed_for = Some((
            Cause::KilledStartTimeout,
            self.policy.start_timeout.unwrap_or_default(),
        ));
        self.tell(now, StopSeverity::Kill, out);
    }
}
