//! How a worker ends: by itself, as it was told, or because its time was over.

use std::time::Duration;

use super::{Effect, LOOK_AT_GROUP_AFTER, Phase, Worker};
use crate::model::action::{Action, SignalTarget};
use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::fact::reasons::{SignalReason, StopReason};
use crate::model::fact::{Fact, WorkerExit};
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::model::timer::Timer;

/// A worker died by itself: what that means for a slot, a rollout, a request.
pub(crate) struct Death<'a> {
    /// The worker.
    pub(crate) worker: &'a Worker,
    /// How it ended.
    pub(crate) exit: &'a WorkerExit,
    /// It ended with an exit code after which its slot is not filled again.
    pub(crate) fatal: bool,
    /// It was the canary of a rollout, ready, and on trial.
    pub(crate) was_canary: bool,
}

impl Worker {
    /// Whether this end of it is no death: it had been ready, said that it stops, and exited 0.
    pub(crate) fn finished(&self, exit: &LastExit) -> bool {
        let by_itself = !self.asked && exit.cause == Cause::Exited;
        let was_orderly = self.said_stopping && exit.ended == Some(ExitStatus::Exited(0));
        by_itself && was_orderly && self.ready_at.is_some()
    }

    /// How long it was ready when it ended; None: it never was.
    pub(crate) fn ready_for(&self, exit: &LastExit) -> Option<Duration> {
        self.ready_at.map(|ready| exit.at.since(ready))
    }

    /// Its end, with what explains it.
    pub(crate) fn explain_exit(&self, exit: &LastExit) -> WorkerExit {
        let patience = self.killed_for.map_or(Duration::ZERO, |(_, time)| time);
        WorkerExit {
            worker: self.label(),
            exit: exit.clone(),
            failure: self.failure.clone(),
            patience,
            asked: self.asked,
            finished: self.finished(exit),
            ready_for: self.ready_for(exit),
        }
    }

    /// The supervisor tells it to finish: one signal for each severity, never the same or a softer
    /// one again.
    pub(super) fn request_stop(
        &mut self,
        now: Time,
        (severity, why): (StopSeverity, StopReason),
        out: &mut Vec<Effect>,
    ) {
        self.asked |= self.killed_for.is_none();
        // One that has died, and left a group behind, is told nothing any more.
        if self.told_at.is_none() && !self.phase.is_leaderless() {
            out.push(Effect::tell(Fact::WorkerRetiring(self.label(), why)));
        }
        if self.phase.told().is_none_or(|told| severity > told) {
            self.send_stop(now, severity, SignalReason::Told(why), out);
        }
    }

    /// It was told to finish, and its time has passed: KILL, or after that it is given up.
    pub(crate) fn overdue(&mut self, now: Time, severity: StopSeverity, out: &mut Vec<Effect>) {
        if severity == StopSeverity::Kill {
            out.push(Effect::tell(Fact::WorkerUnkillable(self.label())));
            out.push(Effect::Act(Action::Abandon(self.id)));
            if !self.phase.is_leaderless() {
                out.push(Effect::LeaderGone(self.last_exit(now, None)));
            }
            self.gone(out);
            return;
        }
        let (_, patience) = self.policy.signal(severity);
        let fact = Fact::WorkerOverdue(self.label(), patience);
        out.push(Effect::tell(fact));
        self.killed_for = self
            .killed_for
            .or(Some((Cause::KilledGracefulTimeout, patience)));
        self.send_stop(
            now,
            StopSeverity::Kill,
            SignalReason::NotGone(patience),
            out,
        );
    }

    /// More drain than `--max-draining`, and this is the oldest.
    pub(crate) fn over_limit(&mut self, now: Time, severity: StopSeverity, out: &mut Vec<Effect>) {
        if severity < StopSeverity::Kill {
            out.push(Effect::tell(Fact::DrainLimitReached(self.label())));
            self.killed_for = self
                .killed_for
                .or(Some((Cause::KilledLimit, Duration::ZERO)));
            self.send_stop(now, StopSeverity::Kill, SignalReason::DrainLimit, out);
        }
    }

    /// The leader is gone. What is left of its group gets the same signal and what remains of the
    /// time; after a crash, KILL at once.
    pub(crate) fn end(
        &mut self,
        now: Time,
        ended: Option<ExitStatus>,
        rest: bool,
        out: &mut Vec<Effect>,
    ) {
        let told = match self.phase {
            Phase::Stopping(severity) => Some(severity),
            Phase::Spawning
            | Phase::Starting
            | Phase::Ready
            | Phase::Leaderless(_)
            | Phase::Gone => None,
        };
        let exit = self.last_exit(now, ended);
        if !rest {
            out.push(Effect::LeaderGone(exit));
            self.gone(out);
            return;
        }
        let severity = told.unwrap_or(StopSeverity::Kill);
        let (signal, patience) = self.policy.signal(severity);
        let left = self
            .deadline
            .filter(|_| told.is_some())
            .unwrap_or(now + patience);
        self.phase = Phase::Leaderless(severity);
        self.deadline = Some(left);
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::Clear(Timer::Beat(self.id)));
        out.push(Effect::tell(Fact::GroupRemains(self.label(), signal)));
        out.push(Effect::Act(Action::Signal(
            self.id,
            signal,
            SignalTarget::Group,
        )));
        out.push(Effect::Set(Timer::Gone(self.id), left));
        out.push(Effect::Set(
            Timer::Group(self.id),
            now + LOOK_AT_GROUP_AFTER,
        ));
        out.push(Effect::LeaderGone(exit));
    }

    pub(crate) fn gone(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Gone;
        self.released_listeners = true;
        out.push(Effect::Gone);
    }

    pub(crate) fn last_exit(&self, at: Time, ended: Option<ExitStatus>) -> LastExit {
        let died_of = |signal: Signal| matches!(ended, Some(ExitStatus::Signaled(Some(by), _)) if by == signal);
        let cause = match (ended, self.killed_for) {
            (None, None) => Cause::SpawnFailed,
            (None, Some((cause, _))) => cause,
            (Some(_), _) if self.out_of_memory && died_of(Signal::Kill) => Cause::Oom,
            (Some(ExitStatus::Signaled(..)), Some((cause, _))) if died_of(Signal::Kill) => cause,
            // What a worker does with its abort signal is its own: the cause stays the silence.
            (Some(_), Some((Cause::KilledHeartbeat, _))) => Cause::KilledHeartbeat,
            (Some(ExitStatus::Exited(_)), _)
                if self.failure.is_some() && self.killed_for.is_none() =>
            {
                Cause::ExecFailed
            }
            (Some(ExitStatus::Exited(_)), _) if self.asked => Cause::Stopped,
            (Some(ExitStatus::Exited(_)), _) => Cause::Exited,
            (Some(ExitStatus::Signaled(..)), _) => {
                let ours = [
                    self.policy.graceful_signal,
                    self.policy.quick_signal,
                    Signal::Kill,
                ];
                if self.asked && ours.into_iter().any(died_of) {
                    Cause::Stopped
                } else {
                    Cause::Signaled
                }
            }
        };
        LastExit {
            worker: self.id,
            cause,
            ended,
            at,
        }
    }

    /// Sends the signal of this severity, and arms the deadline after which KILL follows.
    pub(super) fn send_stop(
        &mut self,
        now: Time,
        severity: StopSeverity,
        why: SignalReason,
        out: &mut Vec<Effect>,
    ) {
        self.told_at.get_or_insert(now);
        let (signal, patience) = self.policy.signal(severity);
        let mut deadline = now + patience;
        if severity == StopSeverity::Quick {
            // A quicker end must not give more time than the graceful one had left.
            deadline = self
                .deadline
                .map_or(deadline, |earlier| earlier.min(deadline));
        }
        let leader_lives = !self.phase.is_leaderless();
        self.phase = if leader_lives {
            Phase::Stopping(severity)
        } else {
            Phase::Leaderless(severity)
        };
        // A signal to finish goes to the leader alone; KILL, and every signal after the leader's
        // end, goes to the group.
        let to = if leader_lives && severity != StopSeverity::Kill {
            SignalTarget::Leader
        } else {
            SignalTarget::Group
        };
        self.deadline = Some(deadline);
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::Clear(Timer::Beat(self.id)));
        out.push(Effect::tell(Fact::SignalSent(
            self.label(),
            signal,
            to,
            why,
        )));
        out.push(Effect::Act(Action::Signal(self.id, signal, to)));
        out.push(Effect::Set(Timer::Gone(self.id), deadline));
    }
}
