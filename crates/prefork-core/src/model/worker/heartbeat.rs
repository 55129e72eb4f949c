//! Heartbeats: who is timed, by what clock, and what is done about silence (U23, U24).
//!
//! A worker is timed from when the master *saw* a change, by the master's own clock. A worker that
//! never beat is exempt. Before a worker is aborted it is looked at once more: it may have beaten
//! after all, or be stopped or traced. When the master itself was late (suspended, stopped,
//! starved), every worker gets a full timeout anew.

use std::time::Duration;

use super::{Effect, Phase, Worker};
use crate::model::action::Action;
use crate::model::event::WorkerMessage;
use crate::model::exit::Cause;
use crate::model::fact::Fact;
use crate::model::fact::reasons::SignalReason;
use crate::model::fact::text::human;
use crate::model::policy::StopSeverity;
use crate::model::time::Time;
use crate::model::timer::Timer;

/// How long after the last look its answer is acted on: it comes in the same turn.
const AFTER_LAST_LOOK: Duration = Duration::from_millis(1);

impl Worker {
    /// Whether its heartbeat page has to be looked at while it is ready.
    pub fn is_timed(&self) -> bool {
        self.phase == Phase::Ready && self.heartbeat.timeout.is_some()
    }

    /// Whether it is stopped or traced, as far as that was looked at.
    pub fn is_held(&self) -> bool {
        self.heartbeat.held && self.phase == Phase::Ready
    }

    /// It said something that concerns its heartbeat.
    pub(crate) fn heartbeat_said(
        &mut self,
        now: Time,
        message: WorkerMessage,
        out: &mut Vec<Effect>,
    ) {
        match message {
            WorkerMessage::Beat => {
                self.heartbeat.last = Some(now);
                self.heartbeat.final_check = false;
                self.arm(out);
            }
            WorkerMessage::Watchdog(timeout) => {
                // Without a timeout it is not looked at, so nothing else would end this.
                self.heartbeat.held &= !timeout.is_zero();
                self.heartbeat.timeout = (!timeout.is_zero()).then_some(timeout);
                self.arm(out);
            }
            WorkerMessage::Extend(by) => self.extend(now, by, out),
            WorkerMessage::Trigger if self.phase == Phase::Ready => {
                self.abort(now, "it asked for it".to_owned(), out)
            }
            WorkerMessage::Trigger
            | WorkerMessage::Ready
            | WorkerMessage::Newline
            | WorkerMessage::Closed
            | WorkerMessage::Stopping => {}
        }
    }

    /// It is ready now: its time begins.
    pub(crate) fn heartbeat_begins(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.heartbeat.last.is_some() {
            self.heartbeat.last = Some(now);
        }
        self.arm(out);
    }

    /// A full timeout anew: the master was late itself, so the silence may be its own.
    pub(crate) fn pardon(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.heartbeat.last.is_some() {
            self.heartbeat.last = Some(now);
        }
        self.heartbeat.final_check = false;
        self.arm(out);
    }

    /// Its time has passed, as far as is known.
    pub(crate) fn beat_overdue(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(timeout) = self.heartbeat.timeout else {
            return;
        };
        if !self.heartbeat.final_check {
            self.heartbeat.final_check = true;
            out.push(Effect::Act(Action::LookAtBeat(self.id)));
            out.push(Effect::Act(Action::LookWhetherHeld(self.id)));
            out.push(Effect::Set(Timer::Beat(self.id), now + AFTER_LAST_LOOK));
            return;
        }
        let silence = human(now.since(self.heartbeat.last.unwrap_or(now)));
        self.abort(
            now,
            format!(
                "no heartbeat for {silence} (the timeout is {})",
                human(timeout)
            ),
            out,
        );
    }

    /// Whether it is stopped or traced: then it is not timed, and has a full timeout once it goes
    /// on.
    pub(crate) fn held(&mut self, now: Time, held: bool, out: &mut Vec<Effect>) {
        let Some(timeout) = self.heartbeat.timeout else {
            return;
        };
        if held != self.heartbeat.held {
            out.push(Effect::tell(Fact::WorkerHeld(self.label(), held)));
        }
        if held {
            self.heartbeat.final_check = false;
            out.push(Effect::Set(Timer::Beat(self.id), now + timeout / 4));
        } else if self.heartbeat.held {
            self.pardon(now, out);
        }
        self.heartbeat.held = held;
    }

    /// The abort signal's time is over: KILL, unless it is writing its core.
    pub(crate) fn dumping(&mut self, now: Time, dumping: bool, out: &mut Vec<Effect>) {
        if self.phase != Phase::Stopping(StopSeverity::Abort) {
            return;
        }
        if dumping {
            let (_, patience) = self.policy.signal(StopSeverity::Abort);
            let again = now + patience;
            self.deadline = Some(again);
            out.push(Effect::Set(Timer::Gone(self.id), again));
        } else {
            let fact = Fact::AbortOverdue(self.label(), self.policy.abort_signal);
            out.push(Effect::tell(fact));
            let why = SignalReason::AbortOverdue(self.policy.abort_signal);
            self.send_stop(now, StopSeverity::Kill, why, out);
        }
    }

    fn abort(&mut self, now: Time, why: String, out: &mut Vec<Effect>) {
        let signal = self.policy.abort_signal;
        let fact = Fact::HeartbeatMissed(self.label(), why.clone(), signal);
        out.push(Effect::tell(fact));
        self.failure = Some(why);
        self.killed_for = Some((
            Cause::KilledHeartbeat,
            self.heartbeat.timeout.unwrap_or_default(),
        ));
        out.push(Effect::Clear(Timer::Beat(self.id)));
        self.send_stop(now, StopSeverity::Abort, SignalReason::HeartbeatMissed, out);
    }

    /// `EXTEND_TIMEOUT_USEC=`: also for what it does already, it has this long from now; never less
    /// than before.
    fn extend(&mut self, now: Time, by: Duration, out: &mut Vec<Effect>) {
        let until = now + by;
        match self.phase {
            Phase::Spawning | Phase::Starting => {
                if self.start_by.is_some_and(|at| until > at) {
                    self.start_by = Some(until);
                    out.push(Effect::Set(Timer::Start(self.id), until));
                }
            }
            Phase::Ready => {
                self.heartbeat.excused_until = Some(until);
                self.arm(out);
            }
            Phase::Stopping(StopSeverity::Graceful) => {
                if self.deadline.is_some_and(|at| until > at) {
                    self.deadline = Some(until);
                    out.push(Effect::Set(Timer::Gone(self.id), until));
                }
            }
            Phase::Stopping(StopSeverity::Quick | StopSeverity::Abort | StopSeverity::Kill)
            | Phase::Leaderless(_)
            | Phase::Gone => {}
        }
    }

    fn arm(&self, out: &mut Vec<Effect>) {
        let (Phase::Ready, Some(timeout), Some(last)) =
            (self.phase, self.heartbeat.timeout, self.heartbeat.last)
        else {
            out.push(Effect::Clear(Timer::Beat(self.id)));
            return;
        };
        let due = last + timeout;
        out.push(Effect::Set(
            Timer::Beat(self.id),
            self.heartbeat
                .excused_until
                .map_or(due, |until| until.max(due)),
        ));
    }
}
