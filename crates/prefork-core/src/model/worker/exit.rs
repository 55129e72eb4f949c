//! How a worker ends: by itself, as it was told, or because its time was over.

use std::time::Duration;

use super::{Effect, LOOK_AT_GROUP_AFTER, Phase, Worker};
use crate::model::event::{Action, Cause, Ended, LastExit, Level, To, human};
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::model::timer::Timer;

impl Worker {
    /// How it ended, in words: `slot 0: worker 4711 of generation 2 exited with code 3 before it was ready`.
    pub fn exit_message(&self, exit: &LastExit) -> String {
        let patience = human(
            self.killed_for
                .map_or(Duration::ZERO, |(_, patience)| patience),
        );
        let how = match (exit.cause, &self.failure, exit.ended) {
            (Cause::ExecFailed | Cause::SpawnFailed, Some(why), _) => {
                return self.start_message("could not be started", why);
            }
            (Cause::KilledStartTimeout, Some(why), _) => {
                return self.start_message("was killed", why);
            }
            (Cause::KilledStartTimeout, None, _) => {
                let why = format!("not ready within its start timeout of {patience}");
                return self.start_message("was killed", &why);
            }
            (Cause::KilledHeartbeat, Some(why), _) => {
                return self.start_message("was aborted", why);
            }
            (Cause::KilledLimit, _, _) => "was killed: too many were draining".to_owned(),
            (Cause::KilledGracefulTimeout, _, _) => {
                format!("was killed: not gone within {patience}")
            }
            (_, _, Some(ended)) => ended.to_string(),
            (_, _, None) => "is gone".to_owned(),
        };
        let when = match (self.asked, self.ready_at) {
            (true, _) => String::new(),
            (false, None) => " before it was ready".to_owned(),
            (false, Some(ready)) => format!(" {} after it was ready", human(exit.at.since(ready))),
        };
        format!("{} {how}{when}", self.label())
    }

    pub(crate) fn start_message(&self, what: &str, why: &str) -> String {
        format!("{} {what}: {why}", self.label())
    }

    pub(crate) fn overdue(&mut self, now: Time, word: StopSeverity, out: &mut Vec<Effect>) {
        if word == StopSeverity::Kill {
            let text = format!(
                "{} does not die of KILL and is given up: it stays, unsupervised",
                self.label()
            );
            out.push(Effect::Act(self.note(Level::Error, text)));
            out.push(Effect::Act(Action::Abandon(self.id)));
            if matches!(self.phase, Phase::Stopping(_)) {
                out.push(Effect::LeaderGone(self.last_exit(now, None)));
            }
            self.gone(out);
            return;
        }
        let (_, patience) = self.policy.signal(word);
        let text = format!(
            "{} is not gone after {}: killed",
            self.label(),
            human(patience)
        );
        out.push(Effect::Act(self.note(Level::Warn, text)));
        self.killed_for = self
            .killed_for
            .or(Some((Cause::KilledGracefulTimeout, patience)));
        self.tell(now, StopSeverity::Kill, out);
    }

    /// Too many drain, and this is the oldest.
    pub(crate) fn over_limit(&mut self, now: Time, word: StopSeverity, out: &mut Vec<Effect>) {
        if word < StopSeverity::Kill {
            let text = format!(
                "{} is the oldest of too many that drain: killed",
                self.label()
            );
            out.push(Effect::Act(self.note(Level::Warn, text)));
            self.killed_for = self
                .killed_for
                .or(Some((Cause::KilledLimit, Duration::ZERO)));
            self.tell(now, StopSeverity::Kill, out);
        }
    }

    /// The leader is gone. What is left of its group gets the same word and what remains of the time; after a crash, KILL.
    pub(crate) fn end(
        &mut self,
        now: Time,
        ended: Option<Ended>,
        rest: bool,
        out: &mut Vec<Effect>,
    ) {
        let told = match self.phase {
            Phase::Stopping(word) => Some(word),
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
        let word = told.unwrap_or(StopSeverity::Kill);
        let (signal, patience) = self.policy.signal(word);
        let left = self
            .deadline
            .filter(|_| told.is_some())
            .unwrap_or(now + patience);
        self.phase = Phase::Leaderless(word);
        self.deadline = Some(left);
        let text = format!(
            "{} has ended, but its process group has not: the rest gets {signal} (a wrapper shell that did not exec?)",
            self.label()
        );
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::Clear(Timer::Beat(self.id)));
        out.push(Effect::Act(self.note(Level::Warn, text)));
        out.push(Effect::Act(Action::Signal(self.id, signal, To::Group)));
        out.push(Effect::Set(Timer::Gone(self.id), left));
        out.push(Effect::Set(
            Timer::Group(self.id),
            now + LOOK_AT_GROUP_AFTER,
        ));
        out.push(Effect::LeaderGone(exit));
    }

    pub(crate) fn gone(&mut self, out: &mut Vec<Effect>) {
        self.phase = Phase::Gone;
        self.let_go = true;
        out.push(Effect::Gone);
    }

    pub(crate) fn last_exit(&self, at: Time, ended: Option<Ended>) -> LastExit {
        let died_of =
            |signal: Signal| matches!(ended, Some(Ended::Signaled(Some(by), _)) if by == signal);
        let cause = match (ended, self.killed_for) {
            (None, None) => Cause::SpawnFailed,
            (None, Some((cause, _))) => cause,
            (Some(Ended::Signaled(..)), Some((cause, _))) if died_of(Signal::Kill) => cause,
            // What a worker does with its abort signal is its own: the cause stays the silence.
            (Some(_), Some((Cause::KilledHeartbeat, _))) => Cause::KilledHeartbeat,
            (Some(Ended::Exited(_)), _) if self.failure.is_some() && self.killed_for.is_none() => {
                Cause::ExecFailed
            }
            (Some(Ended::Exited(_)), _) if self.asked => Cause::Stopped,
            (Some(Ended::Exited(_)), _) => Cause::Exited,
            (Some(Ended::Signaled(..)), _) => {
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

    /// The supervisor's word: one signal for each degree of hardness, never the same or a softer one again.
    pub(crate) fn ask(&mut self, now: Time, word: StopSeverity, out: &mut Vec<Effect>) {
        let told = match self.phase {
            Phase::Stopping(told) | Phase::Leaderless(told) => Some(told),
            Phase::Spawning | Phase::Starting | Phase::Ready | Phase::Gone => None,
        };
        self.asked |= self.killed_for.is_none();
        if told.is_none_or(|told| word > told) {
            self.tell(now, word, out);
        }
    }

    pub(crate) fn tell(&mut self, now: Time, word: StopSeverity, out: &mut Vec<Effect>) {
        self.told_at.get_or_insert(now);
        let (signal, patience) = self.policy.signal(word);
        let mut deadline = now + patience;
        if word == StopSeverity::Quick {
            // A quicker end must not give more time than the graceful one had left.
            deadline = self
                .deadline
                .map_or(deadline, |earlier| earlier.min(deadline));
        }
        let leader_lives = !matches!(self.phase, Phase::Leaderless(_));
        self.phase = if leader_lives {
            Phase::Stopping(word)
        } else {
            Phase::Leaderless(word)
        };
        // A word goes to the worker itself; KILL, and whatever comes when it is gone, to its group.
        let to = if leader_lives && word != StopSeverity::Kill {
            To::Leader
        } else {
            To::Group
        };
        self.deadline = Some(deadline);
        out.push(Effect::Clear(Timer::Start(self.id)));
        out.push(Effect::Clear(Timer::ReadyDelayElapsed(self.id)));
        out.push(Effect::Clear(Timer::Beat(self.id)));
        out.push(Effect::Act(Action::Signal(self.id, signal, to)));
        out.push(Effect::Set(Timer::Gone(self.id), deadline));
    }
}
