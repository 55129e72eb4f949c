//! From the fork to being ready: what counts as readiness, and what comes too late.

use crate::model::event::WorkerMessage;
use crate::model::exit::Cause;
use crate::model::fact::Fact;
use crate::model::fact::reasons::SignalReason;
use crate::model::fact::text::human;
use crate::model::policy::{Readiness, SILENT_READY, StopSeverity};
use crate::model::time::Time;
use crate::model::timer::Timer;

use super::state::{Effect, Phase, Worker};

impl Worker {
    /// Whether its readiness may come through its heartbeat page.
    pub fn awaits_first_beat(&self) -> bool {
        let by_page = match self.policy.ready {
            Readiness::Auto | Readiness::Heartbeat => true,
            Readiness::Notify | Readiness::Delay(_) | Readiness::Exec | Readiness::Fd(_) => false,
        };
        by_page && self.is_starting()
    }

    /// Its program runs. `must_notify`: some worker of this command has notified that it was ready,
    /// so silence is not enough.
    pub(super) fn executed(&mut self, now: Time, must_notify: bool, out: &mut Vec<Effect>) {
        self.phase = Phase::Starting;
        out.push(Effect::tell(Fact::WorkerExecuted(self.label())));
        match self.policy.ready {
            Readiness::Exec => self.become_ready(now, out),
            Readiness::Delay(delay) => {
                out.push(Effect::Set(Timer::ReadyDelayElapsed(self.id), now + delay));
            }
            Readiness::Auto if !must_notify => {
                let at = now + SILENT_READY;
                out.push(Effect::Set(Timer::ReadyDelayElapsed(self.id), at));
            }
            Readiness::Auto | Readiness::Notify | Readiness::Heartbeat | Readiness::Fd(_) => {}
        }
    }

    /// It has lived long enough, if that is all that is asked of it.
    pub(super) fn ready_delay_elapsed(
        &mut self,
        now: Time,
        must_notify: bool,
        out: &mut Vec<Effect>,
    ) {
        let guessed = self.policy.ready == Readiness::Auto;
        if !(must_notify && guessed) {
            self.readiness_guessed = guessed;
            self.become_ready(now, out);
        }
    }

    /// It said something while it was starting.
    pub(super) fn said_while_starting(
        &mut self,
        now: Time,
        message: WorkerMessage,
        out: &mut Vec<Effect>,
    ) {
        let ready = match (self.policy.ready, message) {
            (Readiness::Auto, WorkerMessage::Ready | WorkerMessage::Beat)
            | (Readiness::Notify, WorkerMessage::Ready)
            | (Readiness::Heartbeat, WorkerMessage::Beat)
            | (Readiness::Fd(_), WorkerMessage::Newline) => true,
            (Readiness::Fd(fd), WorkerMessage::Closed) => {
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
        self.note_stopping(message);
        self.heartbeat_said(now, message, out);
        if ready {
            self.become_ready(now, out);
        }
    }

    /// A worker that says that it stops accepts no more.
    pub(super) fn note_stopping(&mut self, message: WorkerMessage) {
        let stopping = message == WorkerMessage::Stopping;
        self.said_stopping |= stopping;
        self.released_listeners |= stopping;
    }

    fn become_ready(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.phase = Phase::Ready;
        self.ready_at = Some(now);
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::BecameReady);
        self.heartbeat_begins(now, out);
    }

    /// It is not ready in time, or never will be, for this reason: a readiness that does not come
    /// is a failed start.
    pub(super) fn start_overdue(&mut self, now: Time, why: Option<String>, out: &mut Vec<Effect>) {
        let patience = self.policy.start_timeout.unwrap_or_default();
        let unheard = || {
            // A client that knows no abstract addresses fails silently, and looks like a slow
            // start.
            format!(
                "not ready within its start timeout of {}, and no READY=1 came to its \
                 NOTIFY_SOCKET (a client that knows no abstract addresses needs --notify-path)",
                human(patience)
            )
        };
        self.failure = why.or_else(|| (self.policy.ready == Readiness::Notify).then(unheard));
        self.killed_for = Some((Cause::KilledStartTimeout, patience));
        self.send_stop(now, StopSeverity::Kill, SignalReason::NotReady, out);
    }
}
