//! Facts as text: one line each, as the log has them. All of it stands here, so that a wording is
//! changed in one place; [`fact`](super) has the values.
//!
//! A text that is also shown as the progress or the outcome of an operation has a method of its own
//! ([`Fact::detail`]): the same words without the kind of the operation in front.

use std::fmt;
use std::time::Duration;

use super::{Fact, WorkerExit};

use crate::model::exit::{Cause, ExitStatus};
use crate::model::ids::WorkerLabel;
use crate::model::leftover::{Holds, LeftBehind};
use crate::model::operation::OperationKind;
use crate::model::policy::StopSeverity;
use crate::model::signal::{Signal, SignalTarget};

/// A number of workers: `1 worker`, `4 workers`.
pub fn workers(count: usize) -> String {
    format!("{count} worker{}", if count == 1 { "" } else { "s" })
}

/// A duration: `250ms`, `1.5s`, `2m 0s`.
pub fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1000 => format!("{millis}ms"),
        1000..60_000 if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        1000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m {}s", millis / 60_000, millis % 60_000 / 1000),
    }
}

impl StopSeverity {
    /// The word in logs.
    pub fn name(self) -> &'static str {
        match self {
            StopSeverity::Graceful => "graceful",
            StopSeverity::Quick => "quick",
            StopSeverity::Abort => "abort",
            StopSeverity::Kill => "kill",
        }
    }
}

impl fmt::Display for WorkerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerLabel {
            slot,
            pid,
            generation,
        } = self;
        match pid {
            Some(pid) => write!(f, "slot {slot}: worker {pid} of generation {generation}"),
            None => write!(f, "slot {slot}: a worker of generation {generation}"),
        }
    }
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl LeftBehind {
    fn by(&self) -> String {
        match self.slot {
            Some(slot) => format!("a worker of slot {slot}"),
            None => "a worker".to_owned(),
        }
    }

    fn holding(&self) -> String {
        match &self.holds {
            Holds::Nothing => "holds no listener".to_owned(),
            Holds::Listeners(names) => format!("holds {}", names.join(", ")),
            Holds::Perhaps(names) if names.is_empty() => "holds no listener".to_owned(),
            Holds::Perhaps(names) => format!("may hold {}", names.join(", ")),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(code) => write!(f, "exited with code {code}"),
            ExitStatus::Signaled(signal, core) => {
                let name = signal.map_or("an unnamed signal", Signal::name);
                let core = if *core { " (core dumped)" } else { "" };
                write!(f, "was killed by {name}{core}")
            }
        }
    }
}

impl fmt::Display for WorkerExit {
    /// `slot 0: worker 4711 of generation 2 exited with code 3 before it was ready`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerExit { worker, exit, .. } = self;
        let patience = human(self.patience);
        match (exit.cause, &self.failure, exit.ended) {
            (Cause::ExecFailed | Cause::SpawnFailed, Some(why), _) => {
                return write!(f, "{worker} could not be started: {why}");
            }
            (Cause::KilledStartTimeout, Some(why), _) => {
                return write!(f, "{worker} was killed: {why}");
            }
            (Cause::KilledStartTimeout, None, _) => {
                return write!(
                    f,
                    "{worker} was killed: not ready within its start timeout of {patience}"
                );
            }
            (Cause::KilledHeartbeat, Some(why), _) => {
                return write!(f, "{worker} was aborted: {why}");
            }
            (Cause::Oom, _, _) => {
                write!(f, "{worker} was killed for want of memory (OOM)")?;
                if let (false, Some(ready)) = (self.asked, self.ready_for) {
                    write!(f, " {} after it was ready", human(ready))?;
                } else if !self.asked {
                    f.write_str(" before it was ready")?;
                }
                return f
                    .write_str(" (raise the memory limit of its cgroup, or run fewer workers)");
            }
            (Cause::KilledLimit, _, _) => {
                write!(f, "{worker} was killed: too many were draining")?;
            }
            (Cause::KilledGracefulTimeout, _, _) => {
                write!(f, "{worker} was killed: not gone within {patience}")?;
            }
            (_, _, Some(ended)) => write!(f, "{worker} {ended}")?,
            (_, _, None) => write!(f, "{worker} is gone")?,
        }
        match (self.asked, self.ready_for) {
            (true, _) => Ok(()),
            (false, None) => f.write_str(" before it was ready"),
            (false, Some(ready)) => write!(f, " {} after it was ready", human(ready)),
        }
    }
}

impl Fact {
    /// The line without the kind of the operation in front: what a client that waits for it is
    /// shown.
    pub fn detail(&self) -> String {
        let line = self.to_string();
        let is_kind = |word| OperationKind::ALL.iter().any(|kind| kind.name() == word);
        match line.split_once(": ") {
            Some((kind, detail)) if is_kind(kind) => detail.to_owned(),
            Some(_) | None => line,
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::WorkerStarted(worker) => write!(f, "{worker} started"),
            Fact::WorkerExecuted(worker) => write!(f, "{worker} runs its program"),
            Fact::WorkerRetiring(worker, why) => {
                write!(f, "{worker} is told to finish: {why}")
            }
            Fact::SignalSent(worker, signal, SignalTarget::Leader, why) => {
                write!(f, "{worker} gets {signal}: {why}")
            }
            Fact::SignalSent(worker, signal, SignalTarget::Group, why) => {
                write!(f, "{worker} gets {signal}, with its group: {why}")
            }
            Fact::WorkerReady(worker, after) => {
                write!(f, "{worker} is ready after {}", human(*after))
            }
            Fact::WorkerExited(exit) => exit.fmt(f),
            Fact::WorkerOverdue(worker, patience) => {
                write!(f, "{worker} is not gone after {}: killed", human(*patience))
            }
            Fact::AbortOverdue(worker, signal) => {
                write!(f, "{worker} is not gone after {signal}: killed")
            }
            Fact::WorkerUnkillable(worker) => write!(
                f,
                "{worker} does not die of KILL and is given up: it stays, unsupervised"
            ),
            Fact::LeftBehind(left, signal) => {
                write!(
                    f,
                    "{left}, which {} left behind, {}: ",
                    left.by(),
                    left.holding()
                )?;
                write!(f, "{signal} is sent to it")
            }
            Fact::WorkerIsDaemon(left, signal) => {
                write!(
                    f,
                    "{} has put itself into the background: {left} ",
                    left.by()
                )?;
                write!(
                    f,
                    "{} and gets {signal} (let the command run in the foreground)",
                    left.holding()
                )
            }
            Fact::LeftoverOverdue(left) => {
                write!(
                    f,
                    "{left}, which {} left behind, is not gone in time: killed",
                    left.by()
                )
            }
            Fact::LeftoverUnkillable(left) => {
                write!(
                    f,
                    "{left}, which {} left behind, does not die of KILL: it stays",
                    left.by()
                )
            }
            Fact::LeftAlone(left) => {
                write!(
                    f,
                    "{left}, which {} left behind, lives on: it {}",
                    left.by(),
                    left.holding()
                )
            }
            Fact::Survives(left) => write!(f, "{left} lives on and {}", left.holding()),
            Fact::DrainLimitReached(worker) => {
                write!(f, "{worker} is the oldest of too many that drain: killed")
            }
            Fact::GroupRemains(worker, signal) => write!(
                f,
                "{worker} has ended, but its process group has not: the rest gets {signal} \
                 (a wrapper shell that did not exec?)"
            ),
            Fact::HeartbeatMissed(worker, why, signal) => write!(f, "{worker}: {why}: {signal}"),
            Fact::WorkerHeld(worker, true) => {
                write!(f, "{worker} is stopped or traced: not timed")
            }
            Fact::WorkerHeld(worker, false) => write!(f, "{worker} goes on: timed again"),
            Fact::ListenerStillHeld(worker, after) => write!(
                f,
                "{worker} was told to finish and still holds a listener after {}: \
                 it may still accept",
                human(*after)
            ),
            Fact::SlotDown(slot) => {
                write!(f, "slot {slot}: that exit code is fatal: not started again")
            }
            Fact::SlotWaits(slot, wait) => {
                write!(f, "slot {slot}: the next start is in {}", human(*wait))
            }
            Fact::GaveUp(slot, failures) => write!(
                f,
                "slot {slot}: gave up: {failures} failed starts in a row, and no worker is ready"
            ),
            Fact::LoopWasLate(late) => write!(
                f,
                "the loop was late by {}: heartbeats are timed anew",
                human(*late)
            ),
            Fact::ListenerAdded(listener) => write!(f, "listener added: {listener}"),
            Fact::ListenerRemoved(listener) => write!(f, "listener removed: {listener}"),
            Fact::RolloutBegan {
                kind,
                from,
                to,
                slots,
                op: _,
            } => match from {
                Some(from) => write!(f, "{kind}: from generation {from} to {to}"),
                None => write!(f, "{kind}: generation {to}, {}", workers(*slots)),
            },
            Fact::RolloutOnProbation { kind, to, trial } => write!(
                f,
                "{kind}: generation {to} serves, on probation for {}",
                human(*trial)
            ),
            Fact::RolloutDone {
                kind,
                to,
                slots,
                took,
                op: _,
                from: _,
            } => write!(
                f,
                "{kind} done: generation {to}, {} ready, {}",
                workers(*slots),
                human(*took)
            ),
            Fact::RollingBack { kind, to, why } => {
                write!(f, "{kind} of generation {to}: rolling back: {why}")
            }
            Fact::RolledBack { kind, to, why, .. } => {
                write!(f, "{kind} of generation {to}: rolled back: {why}")
            }
            Fact::RolloutGivenUp { kind, to, why, .. } => {
                write!(f, "{kind} of generation {to}: given up: {why}")
            }
            Fact::PinFailed { kind, why, .. } => {
                write!(f, "{kind} refused, nothing has changed: {why}")
            }
            Fact::SignalDeferred(signal, busy) => write!(f, "{signal} is remembered: {busy}"),
            Fact::SignalIgnored(signal) => {
                write!(f, "{signal} ignored: the service is stopping")
            }
            Fact::SignalRefused(signal, why) => write!(f, "{signal} refused: {why}"),
            Fact::DeferredPauseDropped(by) => {
                write!(f, "WINCH is forgotten: a {by} came after it")
            }
            Fact::ReboundDeferred { listener, busy } => {
                write!(f, "listener {listener} waits for its new workers: {busy}")
            }
            Fact::RetireBegan(generation, count) => write!(
                f,
                "retire: {} of generation {generation} told to go now",
                workers(*count)
            ),
            Fact::RestartBegan(slot) => write!(f, "slot {slot}: restart"),
            Fact::RestartFailed(slot, why) => write!(f, "restart of slot {slot}: {why}"),
            Fact::ScaleBegan { from, to } => {
                write!(f, "scale: from {from} to {}", workers(*to))
            }
            Fact::Scaled { from, to } => write!(f, "scaled from {from} to {}", workers(*to)),
            Fact::ScaleFailed(to, why) => write!(f, "scale to {to}: {why}"),
            Fact::ScaleRefused(why) => write!(f, "scale refused: {why}"),
            Fact::PauseBegan => f.write_str("pause: the workers are told to finish; clients queue"),
            Fact::Paused => f.write_str("paused"),
            Fact::ResumeBegan(slots) => write!(f, "resume: {}", workers(*slots)),
            Fact::Resumed(slots) => write!(f, "resumed: {} ready", workers(*slots)),
            Fact::StopBegan {
                severity,
                workers: count,
                of_service: _,
                reason: _,
            } => {
                write!(f, "stop: {}, {}", severity.name(), workers(*count))
            }
            Fact::LifelineEnded(how) => f.write_str(how),
            Fact::StopHardened(severity) => write!(f, "stop: {}", severity.name()),
            Fact::StopDelayed(delay) => {
                write!(f, "stop: serving for another {}", human(*delay))
            }
            Fact::QueuesAwaited => f.write_str("stop: waiting for the accept queues to be empty"),
            Fact::QueuesNotEmpty => {
                f.write_str("stop: the accept queues are not empty, and the time is over")
            }
            Fact::Stopped => f.write_str("stopped"),
            Fact::ForkBegan { to, manual, .. } => {
                let how = if *manual {
                    "both serve until one is told to quit"
                } else {
                    "one worker for one"
                };
                write!(f, "upgrade: a new master, generation {to}; {how}")
            }
            Fact::PeerUp(peer) => write!(f, "upgrade: {peer} stands"),
            Fact::PeerExited(peer, how, _) => write!(f, "upgrade: {peer} {how}"),
            Fact::PeerSilent(peer, within) => {
                let within = human(*within);
                write!(
                    f,
                    "upgrade: {peer} has not answered for {within}, and is killed"
                )
            }
            Fact::ForkTurnedBack(why) => write!(f, "upgrade: going back: {why}"),
            Fact::ForkGoesOn => {
                f.write_str("upgrade: going on after all: there is no old master to go back to")
            }
            Fact::BothMastersServe(peer, count) => write!(
                f,
                "upgrade: {peer} serves with {}, and this one too: QUIT to this one commits, \
                 QUIT to that one backs out",
                workers(*count)
            ),
            Fact::ForkDone {
                to,
                workers: count,
                peer,
                took,
            } => write!(
                f,
                "upgrade done: generation {to}, {} ready in {peer}, {}",
                workers(*count),
                human(*took)
            ),
        }
    }
}
