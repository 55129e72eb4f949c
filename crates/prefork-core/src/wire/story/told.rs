//! Which fact is an entry of which slot's story. Not every fact is: those that a signal follows for
//! the same reason are told by the signal.

use std::time::Duration;

use super::{Entry, LONGEST_TEXT};
use crate::model::exit::ExitStatus;
use crate::model::fact::{Fact, WorkerExit};
use crate::model::leftover::LeftBehind;
use crate::model::signal::{Signal, SignalTarget};
use crate::wire::text;

/// The entry of a fact, and the slot; None: the fact is about no slot, or about none that is known.
/// `date`: the date in this time from now.
pub fn entry(fact: &Fact, date: impl Fn(Duration) -> String) -> Option<(u32, Entry)> {
    let (slot, entry) = match fact {
        Fact::WorkerStarted(label) => (label.slot, plain("started")),
        Fact::WorkerExecuted(label) => (label.slot, plain("executed")),
        Fact::WorkerReady(label, _) => (label.slot, plain("ready")),
        Fact::WorkerHeld(label, true) => (label.slot, plain("held")),
        Fact::WorkerHeld(label, false) => (label.slot, plain("continued")),
        Fact::WorkerUnkillable(label) => (label.slot, plain("unkillable")),
        Fact::ListenerStillHeld(label, _) => (label.slot, plain("listener-held")),
        Fact::WorkerRetiring(label, why) => (label.slot, plain("retiring").because(why.name())),
        Fact::HeartbeatMissed(label, ..) => (label.slot, plain("heartbeat-missed")),
        Fact::SignalSent(label, signal, to, why) => {
            (label.slot, signalled(*signal, *to).because(why.name()))
        }
        Fact::GroupRemains(label, signal) => {
            let entry = signalled(*signal, SignalTarget::Group);
            (label.slot, entry.because("group-remains"))
        }
        Fact::WorkerExited(exit) => (exit.worker.slot, exited(exit)),
        Fact::SlotWaits(slot, wait) => {
            let mut entry = plain("waiting");
            entry.until = Some(date(*wait));
            (*slot, entry)
        }
        Fact::SlotDown(slot) => (*slot, plain("down")),
        Fact::GaveUp(slot, _) => (*slot, plain("gave-up")),
        Fact::RestartBegan(slot) => (*slot, plain("restart")),
        Fact::RestartFailed(slot, _) => (*slot, plain("restart-failed")),
        Fact::LeftBehind(left, signal) | Fact::WorkerIsDaemon(left, signal) => {
            left_behind(left, Some(*signal))?
        }
        Fact::LeftoverOverdue(left) => left_behind(left, Some(Signal::Kill))?,
        Fact::LeftoverUnkillable(left) | Fact::LeftAlone(left) | Fact::Survives(left) => {
            left_behind(left, None)?
        }
        // The signal that follows tells of these.
        Fact::WorkerOverdue(..) | Fact::AbortOverdue(..) | Fact::DrainLimitReached(_) => {
            return None;
        }
        Fact::LoopWasLate(_)
        | Fact::RolloutBegan { .. }
        | Fact::RolloutOnProbation { .. }
        | Fact::RolloutDone { .. }
        | Fact::RollingBack { .. }
        | Fact::RolledBack { .. }
        | Fact::ListenerAdded(_)
        | Fact::ListenerRemoved(_)
        | Fact::RolloutGivenUp { .. }
        | Fact::PinFailed { .. }
        | Fact::SignalDeferred(..)
        | Fact::SignalIgnored(_)
        | Fact::SignalRefused(..)
        | Fact::DeferredPauseDropped(_)
        | Fact::ReboundDeferred { .. }
        | Fact::RetireBegan(..)
        | Fact::ScaleBegan { .. }
        | Fact::Scaled { .. }
        | Fact::ScaleFailed(..)
        | Fact::ScaleRefused(_)
        | Fact::PauseBegan
        | Fact::Paused
        | Fact::ResumeBegan(_)
        | Fact::Resumed(_)
        | Fact::StopBegan { .. }
        | Fact::LifelineEnded(_)
        | Fact::StopHardened(_)
        | Fact::StopDelayed(_)
        | Fact::QueuesAwaited
        | Fact::QueuesNotEmpty
        | Fact::Stopped
        | Fact::ForkBegan { .. }
        | Fact::PeerUp(_)
        | Fact::PeerExited(..)
        | Fact::PeerSilent(..)
        | Fact::ForkTurnedBack(_)
        | Fact::ForkGoesOn
        | Fact::BothMastersServe(..)
        | Fact::ForkDone { .. } => return None,
    };
    let label = fact.worker();
    let line = fact.to_string();
    let said = line
        .strip_prefix(&format!("slot {slot}: "))
        .unwrap_or(&line);
    let entry = Entry {
        at: date(Duration::ZERO),
        pid: entry.pid.or(label.and_then(|label| label.pid)),
        generation: label.map(|label| label.generation.0),
        text: text::cut(said, LONGEST_TEXT),
        ..entry
    };
    Some((slot, entry))
}

fn plain(event: &str) -> Entry {
    Entry {
        event: event.to_owned(),
        ..Entry::default()
    }
}

fn name(signal: Signal) -> Option<String> {
    Some(signal.name().to_owned())
}

fn signalled(signal: Signal, to: SignalTarget) -> Entry {
    let to = match to {
        SignalTarget::Leader => "worker",
        SignalTarget::Group => "group",
    };
    Entry {
        signal: name(signal),
        to: Some(to.to_owned()),
        ..plain("signal")
    }
}

fn exited(exit: &WorkerExit) -> Entry {
    let (code, signal, core) = match exit.exit.ended {
        Some(ExitStatus::Exited(code)) => (Some(code), None, None),
        Some(ExitStatus::Signaled(signal, core)) => (None, signal.and_then(name), Some(core)),
        None => (None, None, None),
    };
    Entry {
        cause: Some(exit.exit.cause.name().to_owned()),
        code,
        signal,
        core,
        ..plain("exited")
    }
}

/// A process outside the worker's group: its own pid, and the slot if that is known.
fn left_behind(left: &LeftBehind, signal: Option<Signal>) -> Option<(u32, Entry)> {
    let entry = Entry {
        pid: Some(left.pid),
        signal: signal.and_then(name),
        ..plain("left-behind")
    };
    Some((left.slot?, entry))
}
