//! The end of the service: graceful, quick, KILL; each harder word once, and each with its time.

use super::event::{Action, Level, OpId, Outcome, Ticket};
use super::policy::{SAME_SIGNAL_WITHIN, Word};
use super::sig::Sig;
use super::supervisor::{Mode, Remembered, Supervisor};
use super::time::Time;
use super::timer::Timer;

/// A stop under way.
#[derive(Debug, Clone)]
pub(super) struct Stopping {
    pub(super) word: Word,
    pub(super) code: u8,
    reason: Option<String>,
    ops: Vec<OpId>,
    last_signal: Option<(Sig, Time)>,
}

impl Supervisor {
    /// A stop that a client asks for: joins one under way unless it is harder.
    pub(super) fn stop_asked(
        &mut self,
        now: Time,
        word: Word,
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
    pub(super) fn stop_signalled(
        &mut self,
        now: Time,
        sig: Sig,
        word: Word,
        out: &mut Vec<Action>,
    ) {
        let mut word = word;
        if let Mode::Stopping(stopping) = &mut self.mode {
            if let Some((last, at)) = stopping.last_signal {
                if last == sig && now.since(at) < SAME_SIGNAL_WITHIN {
                    return;
                }
                word = word.max(stopping.word.harder());
            }
            stopping.last_signal = Some((sig, now));
        }
        self.stop(now, word, 0, None, out);
        if let Mode::Stopping(stopping) = &mut self.mode {
            stopping.last_signal = Some((sig, now));
        }
    }

    /// A stop that the supervisor itself decides on: it exits 1 and says why.
    pub(super) fn stop_because(&mut self, now: Time, reason: String, out: &mut Vec<Action>) {
        self.stop(now, Word::Graceful, 1, Some(reason), out);
    }

    fn stop(
        &mut self,
        now: Time,
        word: Word,
        code: u8,
        reason: Option<String>,
        out: &mut Vec<Action>,
    ) {
        if let Mode::Stopping(stopping) = &mut self.mode {
            if word > stopping.word {
                stopping.word = word;
                out.push(Action::note(Level::Info, format!("stop: {}", word.name())));
                self.tell_all(now, word, out);
            }
            return;
        }
        let why = reason.as_deref().unwrap_or("the service was told to stop");
        self.abort_rollout(now, why, out);
        self.abort_scaling(now, why, out);
        self.abort_restarts(now, why, out);
        if let Some(pinning) = self.pinning.take() {
            self.operations
                .end(now, pinning.op, Outcome::Aborted(why.to_owned()), out);
        }
        let text = format!("stop: {}, {} workers", word.name(), self.workers.len());
        out.push(Action::note(Level::Info, text));
        self.remembered = Remembered::default();
        for slot in 0..self.slots.len() {
            self.timers.clear(Timer::Backoff(slot as u32));
        }
        self.mode = Mode::Stopping(Stopping {
            word,
            code,
            reason,
            ops: Vec::new(),
            last_signal: None,
        });
        // First the workers, then our own copies: an address refuses once the last of both is closed.
        self.tell_all(now, word, out);
        out.push(Action::CloseListeners);
    }

    /// The stop is over when nobody is left.
    pub(super) fn settle_stop(&mut self, now: Time, out: &mut Vec<Action>) {
        if !self.workers.is_empty() {
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
