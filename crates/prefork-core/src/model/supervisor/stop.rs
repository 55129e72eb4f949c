//! The end of the service: graceful, quick, KILL; each harder word once, and each with its time.

use serde::{Deserialize, Serialize};

use super::{Mode, Remembered, Supervisor};
use crate::model::event::{Action, Level, OpId, Outcome, Ticket};
use crate::model::policy::{LOOK_AT_QUEUES_EVERY, SAME_SIGNAL_WITHIN, StopSeverity};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::model::timer::Timer;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// It is announced, and the service still serves (`--stop-delay`).
    Announced,
    /// The service serves until its accept queues have been seen empty (`--drain-queue`).
    DrainingQueues,
    /// The workers were told.
    Told,
}

/// A stop under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stopping {
    pub(crate) word: StopSeverity,
    pub(crate) code: u8,
    stage: Stage,
    /// It began while the service was paused: there is nobody to serve on.
    paused: bool,
    pub(crate) reason: Option<String>,
    ops: Vec<OpId>,
    last_signal: Option<(Signal, Time)>,
}

impl Supervisor {
    /// A stop that a client asks for: joins one under way unless it is harder.
    pub(crate) fn stop_asked(
        &mut self,
        now: Time,
        word: StopSeverity,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        let op = self.operations.begin(now, "stop", ticket, out);
        self.stop(now, word, 0, None, out);
        if let Mode::Stopping(stopping) = &mut self.mode {
            stopping.ops.push(op);
        }
    }

    /// A signal that stops. A second one means the next harder word; the same one within [`SAME_SIGNAL_WITHIN`] counts once
    /// (a terminal, a supervisor and a person may all send it).
    pub(crate) fn stop_signalled(
        &mut self,
        now: Time,
        signal: Signal,
        word: StopSeverity,
        out: &mut Vec<Action>,
    ) {
        let mut word = word;
        if let Mode::Stopping(stopping) = &mut self.mode {
            if let Some((last, at)) = stopping.last_signal {
                if last == signal && now.since(at) < SAME_SIGNAL_WITHIN {
                    return;
                }
                word = word.max(stopping.word.harder());
            }
            stopping.last_signal = Some((signal, now));
        }
        self.stop(now, word, 0, None, out);
        if let Mode::Stopping(stopping) = &mut self.mode {
            stopping.last_signal = Some((signal, now));
        }
    }

    /// A stop that the supervisor itself decides on: it exits 1 and says why.
    pub(crate) fn stop_because(&mut self, now: Time, reason: String, out: &mut Vec<Action>) {
        self.stop(now, StopSeverity::Graceful, 1, Some(reason), out);
    }

    pub(crate) fn stop(
        &mut self,
        now: Time,
        word: StopSeverity,
        code: u8,
        reason: Option<String>,
        out: &mut Vec<Action>,
    ) {
        if let Mode::Stopping(stopping) = &mut self.mode {
            if word > stopping.word {
                stopping.word = word;
                out.push(Action::note(Level::Info, format!("stop: {}", word.name())));
                self.tell_everybody(now, out);
                self.stops_beside(word, None, out);
            }
            return;
        }
        self.stops_beside(word, reason.as_deref(), out);
        let paused = matches!(self.mode, Mode::Paused(_));
        let why = reason.as_deref().unwrap_or("the service was told to stop");
        self.abort_rollout(now, why, out);
        self.abort_scaling(now, why, out);
        self.abort_restarts(now, why, out);
        if let Some(pinning) = self.pinning.take() {
            self.operations
                .end(now, pinning.op, Outcome::Aborted(why.to_owned()), out);
        }
        let text = format!(
            "stop: {}, {}",
            word.name(),
            crate::model::event::workers(self.workers.len())
        );
        out.push(Action::note(Level::Info, text));
        self.remembered = Remembered::default();
        self.mode = Mode::Stopping(Stopping {
            word,
            code,
            stage: Stage::Announced,
            paused,
            reason,
            ops: Vec::new(),
            last_signal: None,
        });
        out.push(Action::AnnounceStop);
        // Those that hold no slot serve nobody yet.
        for index in 0..self.slots.len() {
            if let Some(id) = self.slots[index].replacement.take() {
                self.tell(now, id, word, out);
            }
        }
        match self.policy.stop_delay {
            Some(delay) if self.may_linger() => {
                let text = format!(
                    "stop: serving for another {}",
                    crate::model::event::human(delay)
                );
                out.push(Action::note(Level::Info, text));
                self.timers.set(Timer::StopDelay, now + delay);
            }
            _ => self.stop_delay_over(now, out),
        }
    }

    /// Whether this stop is one that lets the service serve on for a while.
    fn may_linger(&self) -> bool {
        match &self.mode {
            Mode::Stopping(stopping) => {
                stopping.word == StopSeverity::Graceful
                    && stopping.code == 0
                    && self.serving.is_some()
                    && self.beside.is_none()
                    && !stopping.paused
            }
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => false,
        }
    }

    /// Whether a stop was announced and the workers serve on.
    pub(crate) fn still_serves(&self) -> bool {
        match &self.mode {
            Mode::Stopping(stopping) => stopping.stage != Stage::Told && self.may_linger(),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => false,
        }
    }

    /// The load balancers have looked away; now those that are queued already.
    pub(crate) fn stop_delay_over(&mut self, now: Time, out: &mut Vec<Action>) {
        if !(self.policy.drain_queue && self.may_linger()) {
            return self.tell_everybody(now, out);
        }
        if let Mode::Stopping(stopping) = &mut self.mode {
            stopping.stage = Stage::DrainingQueues;
        }
        out.push(Action::note(
            Level::Info,
            "stop: waiting for the accept queues to be empty".into(),
        ));
        self.timers
            .set(Timer::QueuesLate, now + self.policy.graceful_timeout);
        out.push(Action::LookAtQueues);
        self.timers.set(Timer::Queues, now + LOOK_AT_QUEUES_EVERY);
    }

    /// Each accept queue has been seen empty.
    pub(crate) fn queues_empty(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.stage() == Some(Stage::DrainingQueues) {
            self.tell_everybody(now, out);
        }
    }

    /// They are not, and the time is over.
    pub(crate) fn queues_late(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.stage() == Some(Stage::DrainingQueues) {
            let text = "stop: the accept queues are not empty, and the time is over".to_owned();
            out.push(Action::note(Level::Warn, text));
            self.tell_everybody(now, out);
        }
    }

    /// Whether workers may still be started: a service whose last worker has just crashed is not over while it serves on.
    fn still_lingers(&self) -> bool {
        self.stage().is_some_and(|stage| stage != Stage::Told)
    }

    /// Why the service stops, if nobody asked for that.
    pub(crate) fn stop_reason(&self) -> Option<&str> {
        match &self.mode {
            Mode::Stopping(stopping) => stopping.reason.as_deref(),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => None,
        }
    }

    fn stage(&self) -> Option<Stage> {
        match &self.mode {
            Mode::Stopping(stopping) => Some(stopping.stage),
            Mode::Idle | Mode::Running | Mode::Paused(_) | Mode::Over => None,
        }
    }

    fn tell_everybody(&mut self, now: Time, out: &mut Vec<Action>) {
        let Mode::Stopping(stopping) = &mut self.mode else {
            return;
        };
        let (word, told) = (stopping.word, stopping.stage == Stage::Told);
        stopping.stage = Stage::Told;
        for timer in [Timer::StopDelay, Timer::Queues, Timer::QueuesLate] {
            self.timers.clear(timer);
        }
        for slot in 0..self.slots.len() {
            self.timers.clear(Timer::Backoff(slot as u32));
        }
        // First the workers, then our own copies: an address refuses once the last of both is closed.
        self.tell_all(now, word, out);
        if !told {
            out.push(Action::CloseListeners);
        }
    }

    /// The stop is over when nobody is left.
    pub(crate) fn settle_stop(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.stage() == Some(Stage::DrainingQueues) {
            self.timers
                .ensure(Timer::Queues, now + LOOK_AT_QUEUES_EVERY);
        }
        let waits =
            self.still_lingers() || self.outlives_the_old_one() || self.awaits_the_new_one();
        if !self.workers.is_empty() || waits {
            return;
        }
        let Mode::Stopping(stopping) = std::mem::replace(&mut self.mode, Mode::Over) else {
            return;
        };
        for op in stopping.ops {
            self.operations
                .end(now, op, Outcome::Done("stopped".into(), Vec::new()), out);
        }
        out.push(Action::note(Level::Info, "stopped".into()));
        out.push(Action::Exit(stopping.code, stopping.reason));
    }
}
