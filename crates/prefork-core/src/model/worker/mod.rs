//! One worker's state machine: (phase, input) to phase and effects, every pair written down.
//!
//! ```text
//! Spawning ──exec──► Starting ──says so──► Ready
//!     │                  │                   │
//!     └────── told ──────┴────── told ───────┴──► Stopping ──leader gone──► Leaderless ──► Gone
//! ```
//!
//! A worker that dies by itself takes the same way out: its group gets KILL at once.
//!
//! - [`state`]: what is known of a worker, what can happen to it, what follows;
//! - this file: which phase does what with which input;
//! - [`readiness`]: from the fork to being ready;
//! - [`heartbeat`]: who is timed, and what silence means;
//! - [`exit`]: being told to finish, being killed, and the end.
//!
//! An event goes `Supervisor::step` → `Supervisor::feed` → [`Worker::handle`]; the effects go back
//! to `Supervisor::feed`, which performs them. A starting worker that is killed by `kill -9`:
//! `handle` → `starting` → `exit::end` → `Effect::LeaderGone` → `supervisor/worker_exit.rs`, which
//! decides for its slot → `death_in_rollout` in `rollout/mod.rs`, which decides for the rollout.

pub mod exit;
pub mod heartbeat;
pub mod readiness;
pub mod state;

use std::time::Duration;

use super::action::Action;
use super::policy::StopSeverity;
use super::time::Time;
use super::timer::Timer;

pub use state::{Effect, Heartbeat, Input, Phase, Worker};

/// How long after its leader's end a group is looked at first; then less and less often.
pub(crate) const LOOK_AT_GROUP_AFTER: Duration = Duration::from_millis(20);

/// The most time between two looks at a group.
const LOOK_AT_GROUP_WITHIN: Duration = Duration::from_secs(1);

impl Worker {
    /// Takes an input. `must_notify`: some worker of this command has notified that it was ready,
    /// so silence is not enough.
    pub fn handle(&mut self, now: Time, input: Input, must_notify: bool, out: &mut Vec<Effect>) {
        match self.phase {
            Phase::Spawning => self.spawning(now, input, must_notify, out),
            Phase::Starting => self.starting(now, input, must_notify, out),
            Phase::Ready => self.ready(now, input, out),
            Phase::Stopping(severity) => self.stopping(now, severity, input, out),
            Phase::Leaderless(severity) => self.leaderless(now, severity, input, out),
            // Late: a message that was read after the end, a timer of the same turn.
            Phase::Gone => {}
        }
    }

    fn spawning(&mut self, now: Time, input: Input, must_notify: bool, out: &mut Vec<Effect>) {
        match input {
            Input::SpawnFailed(why) => {
                self.failure = Some(why);
                self.end(now, None, false, out);
            }
            Input::Executed => self.executed(now, must_notify, out),
            Input::ExecFailed(why) => self.failure = Some(why),
            // Its descriptors closed with the child that never became its program.
            Input::Said(_) if self.failure.is_some() => {}
            // A worker that speaks was executed, whether or not the driver has read that yet.
            Input::Said(message) => {
                self.executed(now, must_notify, out);
                if self.phase == Phase::Starting {
                    self.said_while_starting(now, message, out);
                } else {
                    self.heartbeat_said(now, message, out);
                }
            }
            Input::StartOverdue => self.start_overdue(now, None, out),
            Input::Stop(severity, why) => self.request_stop(now, (severity, why), out),
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

    fn starting(&mut self, now: Time, input: Input, must_notify: bool, out: &mut Vec<Effect>) {
        match input {
            Input::Said(message) => self.said_while_starting(now, message, out),
            Input::ReadyDelayElapsed => self.ready_delay_elapsed(now, must_notify, out),
            Input::StartOverdue => self.start_overdue(now, None, out),
            Input::Stop(severity, why) => self.request_stop(now, (severity, why), out),
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
            Input::Stop(severity, why) => self.request_stop(now, (severity, why), out),
            Input::Exited(ended, rest) => self.end(now, Some(ended), rest, out),
            Input::Said(message) => {
                self.note_stopping(message);
                self.heartbeat_said(now, message, out);
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

    fn stopping(&mut self, now: Time, severity: StopSeverity, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Said(message) => {
                self.note_stopping(message);
                self.heartbeat_said(now, message, out);
            }
            Input::Stop(harder, why) => self.request_stop(now, (harder, why), out),
            Input::Overdue if severity == StopSeverity::Abort => {
                out.push(Effect::Act(Action::LookWhetherDumping(self.id)));
            }
            Input::Overdue => self.overdue(now, severity, out),
            Input::Dumping(dumping) => self.dumping(now, dumping, out),
            Input::OverLimit => self.over_limit(now, severity, out),
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

    fn leaderless(
        &mut self,
        now: Time,
        severity: StopSeverity,
        input: Input,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Emptied => self.gone(out),
            Input::LookAtGroup => {
                out.push(Effect::Act(Action::LookAtGroup(self.id)));
                self.group_looks = self.group_looks.saturating_add(1);
                let pace = LOOK_AT_GROUP_AFTER.saturating_mul(1 << self.group_looks.min(10));
                out.push(Effect::Set(
                    Timer::Group(self.id),
                    now + pace.min(LOOK_AT_GROUP_WITHIN),
                ));
            }
            Input::Stop(harder, why) => self.request_stop(now, (harder, why), out),
            Input::Overdue => self.overdue(now, severity, out),
            Input::OverLimit => self.over_limit(now, severity, out),
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
}
