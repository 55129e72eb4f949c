//! What a fact is about, and how much it matters.

use super::{Fact, Level};
use crate::model::ids::WorkerLabel;

impl Fact {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Fact::WorkerUnkillable(_)
            | Fact::WorkerIsDaemon(..)
            | Fact::LeftoverUnkillable(_)
            | Fact::Survives(_)
            | Fact::HeartbeatMissed(..)
            | Fact::SlotDown(_)
            | Fact::RollingBack { .. }
            | Fact::RolledBack { .. }
            | Fact::PinFailed { .. }
            | Fact::RestartFailed(..)
            | Fact::ScaleFailed(..)
            | Fact::PeerSilent(..)
            | Fact::ForkTurnedBack(_) => Level::Error,
            Fact::WorkerExited(exit) if exit.asked || exit.finished => Level::Info,
            Fact::PeerExited(_, _, true) => Level::Info,
            Fact::WorkerExited(_)
            | Fact::PeerExited(_, _, false)
            | Fact::WorkerOverdue(..)
            | Fact::AbortOverdue(..)
            | Fact::DrainLimitReached(_)
            | Fact::GroupRemains(..)
            | Fact::LeftBehind(..)
            | Fact::LeftoverOverdue(_)
            | Fact::LeftAlone(_)
            | Fact::ListenerStillHeld(..)
            | Fact::LoopWasLate(_)
            | Fact::SignalRefused(..)
            | Fact::ScaleRefused(_)
            | Fact::QueuesNotEmpty
            | Fact::ForkGoesOn => Level::Warn,
            Fact::WorkerStarted(_)
            | Fact::WorkerExecuted(_)
            | Fact::WorkerRetiring(..)
            | Fact::SignalSent(..)
            | Fact::SlotWaits(..)
            | Fact::GaveUp(..) => Level::Debug,
            Fact::WorkerReady(..)
            | Fact::WorkerHeld(..)
            | Fact::RolloutBegan { .. }
            | Fact::RolloutOnProbation { .. }
            | Fact::RolloutDone { .. }
            | Fact::RolloutGivenUp { .. }
            | Fact::ListenerAdded(_)
            | Fact::ListenerRemoved(_)
            | Fact::SignalDeferred(..)
            | Fact::SignalIgnored(_)
            | Fact::DeferredPauseDropped(_)
            | Fact::ReboundDeferred { .. }
            | Fact::RetireBegan(..)
            | Fact::RestartBegan(_)
            | Fact::ScaleBegan { .. }
            | Fact::Scaled { .. }
            | Fact::PauseBegan
            | Fact::Paused
            | Fact::ResumeBegan(_)
            | Fact::Resumed(_)
            | Fact::StopBegan { .. }
            | Fact::LifelineEnded(_)
            | Fact::StopHardened(_)
            | Fact::StopDelayed(_)
            | Fact::QueuesAwaited
            | Fact::Stopped
            | Fact::ForkBegan { .. }
            | Fact::PeerUp(_)
            | Fact::BothMastersServe(..)
            | Fact::ForkDone { .. } => Level::Info,
        }
    }

    /// The worker that it is about, if it is about one.
    pub fn worker(&self) -> Option<WorkerLabel> {
        match self {
            Fact::WorkerStarted(worker)
            | Fact::WorkerExecuted(worker)
            | Fact::WorkerRetiring(worker, _)
            | Fact::SignalSent(worker, ..)
            | Fact::WorkerReady(worker, _)
            | Fact::WorkerOverdue(worker, _)
            | Fact::AbortOverdue(worker, _)
            | Fact::WorkerUnkillable(worker)
            | Fact::DrainLimitReached(worker)
            | Fact::GroupRemains(worker, _)
            | Fact::HeartbeatMissed(worker, ..)
            | Fact::WorkerHeld(worker, _)
            | Fact::ListenerStillHeld(worker, _) => Some(*worker),
            Fact::WorkerExited(exit) => Some(exit.worker),
            Fact::SlotDown(_)
            | Fact::SlotWaits(..)
            | Fact::GaveUp(..)
            | Fact::LeftBehind(..)
            | Fact::WorkerIsDaemon(..)
            | Fact::LeftoverOverdue(_)
            | Fact::LeftoverUnkillable(_)
            | Fact::LeftAlone(_)
            | Fact::Survives(_)
            | Fact::LoopWasLate(_)
            | Fact::RolloutBegan { .. }
            | Fact::RolloutOnProbation { .. }
            | Fact::RolloutDone { .. }
            | Fact::RollingBack { .. }
            | Fact::RolledBack { .. }
            | Fact::RolloutGivenUp { .. }
            | Fact::ListenerAdded(_)
            | Fact::ListenerRemoved(_)
            | Fact::PinFailed { .. }
            | Fact::SignalDeferred(..)
            | Fact::SignalIgnored(_)
            | Fact::SignalRefused(..)
            | Fact::DeferredPauseDropped(_)
            | Fact::ReboundDeferred { .. }
            | Fact::RetireBegan(..)
            | Fact::RestartBegan(_)
            | Fact::RestartFailed(..)
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
            | Fact::ForkDone { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ids::Generation;

    #[test]
    fn a_fact_about_a_worker_names_it() {
        let worker = WorkerLabel {
            slot: 3,
            pid: Some(7),
            generation: Generation(2),
        };
        let ready = Fact::WorkerReady(worker, Duration::ZERO);
        assert_eq!(ready.worker(), Some(worker));
        assert_eq!(Fact::Paused.worker(), None);
    }
}
