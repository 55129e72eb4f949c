//! The end of the service: graceful, quick, KILL; each harder severity once, and each with its
//! time.
//!
//! ```text
//! announced ──--stop-delay──► draining queues ──--drain-queue──► workers told ──all gone──► exit
//! ```

use std::collections::BTreeSet;

use crate::model::action::Action;
use crate::model::event::{LifelineEnd, QueueDepth};
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::Ticket;
use crate::model::operation::{OperationKind, Outcome};
use crate::model::policy::{LOOK_AT_QUEUES_EVERY, SAME_SIGNAL_WITHIN, StopSeverity};
use crate::model::signal::Signal;
use crate::model::state::Supervisor;
use crate::model::state::changes::{DeferredSignals, Mode, StopStage, Stopping};
use crate::model::timer::Timer;
use crate::model::turn::Turn;

impl Supervisor {
    /// A stop that a client asks for: joins one under way unless it is harder.
    pub(crate) fn stop_asked(
        &mut self,
        turn: &mut Turn<'_>,
        severity: StopSeverity,
        ticket: Option<Ticket>,
    ) {
        let op = turn.begin(&mut self.operations, OperationKind::Stop, ticket);
        turn.progress(op, 0, 0, "stopping");
        self.stop(turn, severity, 0, None);
        if let Some(stopping) = self.mode.stopping_mut() {
            stopping.ops.push(op);
        }
    }

    /// A signal that stops. A second one means the next harder severity; the same one within
    /// [`SAME_SIGNAL_WITHIN`] counts once (a terminal, a supervisor and a person may all send it).
    pub(crate) fn stop_signalled(
        &mut self,
        turn: &mut Turn<'_>,
        signal: Signal,
        severity: StopSeverity,
    ) {
        let mut severity = severity;
        if let Some(stopping) = self.mode.stopping_mut() {
            if let Some((last, at)) = stopping.last_signal {
                if last == signal && turn.now.since(at) < SAME_SIGNAL_WITHIN {
                    return;
                }
                severity = severity.max(stopping.severity.harder());
            }
            stopping.last_signal = Some((signal, turn.now));
        }
        self.stop(turn, severity, 0, None);
        if let Some(stopping) = self.mode.stopping_mut() {
            stopping.last_signal = Some((signal, turn.now));
        }
    }

    /// A stop that the supervisor itself decides on: it exits 1 and says why.
    pub(crate) fn stop_because(&mut self, turn: &mut Turn<'_>, reason: String) {
        self.stop(turn, StopSeverity::Graceful, 1, Some(reason));
    }

    /// The lifeline has ended: a graceful stop of the whole service, unless it stops already. While
    /// there are two masters, both have the lifeline and both stop.
    pub(crate) fn lifeline_ended(&mut self, turn: &mut Turn<'_>, fd: i32, how: LifelineEnd) {
        if self.mode.stopping().is_some() {
            return;
        }
        let how = match how {
            LifelineEnd::Byte => "a byte has arrived",
            LifelineEnd::NoHolder => "all holders are gone",
        };
        let reason = format!("lifeline: fd {fd}: {how}");
        turn.tell(Fact::LifelineEnded(reason.clone()));
        self.begin_stop(turn, StopSeverity::Graceful, (0, None), Some(reason));
    }

    pub(crate) fn stop(
        &mut self,
        turn: &mut Turn<'_>,
        severity: StopSeverity,
        code: u8,
        reason: Option<String>,
    ) {
        self.begin_stop(turn, severity, (code, reason), None);
    }

    /// `lifeline`: what the lifeline told. It asks for the stop, so that is no error, but neither a
    /// client nor a signal has.
    fn begin_stop(
        &mut self,
        turn: &mut Turn<'_>,
        severity: StopSeverity,
        (code, reason): (u8, Option<String>),
        lifeline: Option<String>,
    ) {
        if let Some(stopping) = self.mode.stopping_mut() {
            if severity > stopping.severity {
                stopping.severity = severity;
                turn.tell(Fact::StopHardened(severity));
                self.tell_all_workers_to_stop(turn);
                self.stop_peer_too(turn, severity, None);
            }
            return;
        }
        // Where both masters serve until one is told to quit, either one's stop is no end of the
        // service, but their common lifeline's end is: the old one tells of it.
        let both_end = lifeline.is_some() && self.is_old_master_beside_settled();
        let of_service = self.stop_peer_too(turn, severity, reason.as_deref()) || both_end;
        let paused = self.mode.is_paused();
        let told = reason.as_deref().or(lifeline.as_deref());
        let why = told.unwrap_or("the service was told to stop");
        self.abort_rollout(turn, why);
        self.abort_scaling(turn, why);
        self.abort_restarts(turn, why);
        if let Some(pinning) = self.pinning.take() {
            let outcome = Outcome::Aborted(why.to_owned());
            turn.end(&mut self.operations, pinning.op, outcome);
        }
        turn.tell(Fact::StopBegan {
            severity,
            workers: self.workers.len(),
            of_service,
            reason: told.map(str::to_owned),
        });
        self.deferred = DeferredSignals::default();
        self.mode = Mode::Stopping(Stopping {
            severity,
            code,
            stage: StopStage::Announced,
            paused,
            reason,
            ops: Vec::new(),
            last_signal: None,
            seen_empty: BTreeSet::new(),
        });
        // Replacements have no slot: they serve no client yet.
        for index in 0..self.slots.len() {
            if let Some(id) = self.slots[index].replacement.take() {
                self.request_stop(turn, id, severity, StopReason::Stop);
            }
        }
        match self.policy.stop_delay {
            Some(delay) if self.may_serve_on() => {
                turn.tell(Fact::StopDelayed(delay));
                self.timers.set(Timer::StopDelay, turn.now + delay);
            }
            _ => self.stop_delay_over(turn),
        }
    }

    /// Whether this stop is one that lets the service serve on for a while.
    fn may_serve_on(&self) -> bool {
        self.mode.stopping().is_some_and(|stopping| {
            stopping.severity == StopSeverity::Graceful
                && stopping.code == 0
                && self.serving.is_some()
                && self.peer.is_none()
                && !stopping.paused
        })
    }

    /// Whether a stop was announced and the workers serve on.
    pub(crate) fn still_serves(&self) -> bool {
        self.awaits_telling_workers() && self.may_serve_on()
    }

    /// The load balancers have looked away; now the connections that are queued already.
    pub(crate) fn stop_delay_over(&mut self, turn: &mut Turn<'_>) {
        if !(self.policy.drain_queue && self.may_serve_on()) {
            return self.tell_all_workers_to_stop(turn);
        }
        if let Some(stopping) = self.mode.stopping_mut() {
            stopping.stage = StopStage::DrainingQueues;
        }
        turn.tell(Fact::QueuesAwaited);
        let late = turn.now + self.policy.graceful_timeout;
        self.timers.set(Timer::QueuesLate, late);
        turn.act(Action::LookAtQueues);
        let again = turn.now + LOOK_AT_QUEUES_EVERY;
        self.timers.set(Timer::Queues, again);
    }

    /// The accept queues were looked at. Each has to be seen empty once, not all at the same
    /// moment: new clients may always be connecting somewhere.
    pub(crate) fn queue_depths(&mut self, turn: &mut Turn<'_>, depths: &[QueueDepth]) {
        let Some(stopping) = self.mode.stopping_mut() else {
            return;
        };
        if stopping.stage != StopStage::DrainingQueues {
            return;
        }
        let empty = depths.iter().filter(|depth| depth.queued == 0);
        stopping
            .seen_empty
            .extend(empty.map(|depth| depth.listener));
        let seen = |depth: &QueueDepth| stopping.seen_empty.contains(&depth.listener);
        if depths.iter().all(seen) {
            self.tell_all_workers_to_stop(turn);
        }
    }

    /// The accept queues have not been seen empty, and the time is over.
    pub(crate) fn queues_late(&mut self, turn: &mut Turn<'_>) {
        if self.stop_stage() == Some(StopStage::DrainingQueues) {
            turn.tell(Fact::QueuesNotEmpty);
            self.tell_all_workers_to_stop(turn);
        }
    }

    /// Whether workers may still be started: a service whose last worker has just crashed is not
    /// over while it serves on.
    fn awaits_telling_workers(&self) -> bool {
        let stage = self.stop_stage();
        stage.is_some_and(|stage| stage != StopStage::WorkersTold)
    }

    /// Why the service stops, unless it was asked to.
    pub(crate) fn stop_reason(&self) -> Option<&str> {
        self.mode.stopping()?.reason.as_deref()
    }

    fn stop_stage(&self) -> Option<StopStage> {
        self.mode.stopping().map(|stopping| stopping.stage)
    }

    fn tell_all_workers_to_stop(&mut self, turn: &mut Turn<'_>) {
        let Some(stopping) = self.mode.stopping_mut() else {
            return;
        };
        let severity = stopping.severity;
        let stage = std::mem::replace(&mut stopping.stage, StopStage::WorkersTold);
        for timer in [Timer::StopDelay, Timer::Queues, Timer::QueuesLate] {
            self.timers.clear(timer);
        }
        for slot in self.slots.iter_mut() {
            slot.rests_until = None;
        }
        // First the workers, then the master's own copies: an address refuses connections once the
        // last copy is closed.
        self.request_stop_of_all(turn, severity);
        if stage != StopStage::WorkersTold {
            turn.act(Action::CloseListeners);
        }
    }

    /// The stop is over when no worker is left, and nothing that one left behind.
    pub(crate) fn settle_stop(&mut self, turn: &mut Turn<'_>) {
        if self.stop_stage() == Some(StopStage::DrainingQueues) {
            let again = turn.now + LOOK_AT_QUEUES_EVERY;
            self.timers.ensure(Timer::Queues, again);
        }
        let waits =
            self.awaits_telling_workers() || self.outlives_peer() || self.awaits_new_master_start();
        if !self.workers.is_empty() || waits || !self.leftovers_are_gone(turn) {
            return;
        }
        let Mode::Stopping(stopping) = std::mem::replace(&mut self.mode, Mode::Over) else {
            return;
        };
        let outcome = self.stop_outcome(turn);
        for op in stopping.ops {
            turn.end(&mut self.operations, op, outcome.clone());
        }
        turn.tell(Fact::Stopped);
        turn.act(Action::Exit(stopping.code, stopping.reason));
    }
}
