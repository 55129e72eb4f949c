//! The model's plain values as JSON has them. The model knows no format, so each value that is
//! handed over has its written form here, with the way there and back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ids::Generation;
use crate::model::machines::service_manager::{Reported, ServiceStage};
use crate::model::operation::OperationKind;
use crate::model::policy::{Canary, Policy, Readiness, StopSeverity, Surge};
use crate::model::readiness_memory::ReadinessMemory;
use crate::model::signal::Signal;
use crate::model::time::Time;

/// A moment of the monotonic clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl From<Time> for Moment {
    fn from(time: Time) -> Self {
        Moment(time.0)
    }
}

impl From<Moment> for Time {
    fn from(moment: Moment) -> Self {
        Time(moment.0)
    }
}

/// A moment, if there is one.
pub(super) fn moment(time: Option<Time>) -> Option<Moment> {
    time.map(Moment::from)
}

/// The way back.
pub(super) fn time(moment: Option<Moment>) -> Option<Time> {
    moment.map(Time::from)
}

/// A signal, by its name without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct SignalName(pub Signal);

impl TryFrom<String> for SignalName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(SignalName)
    }
}

impl From<SignalName> for &'static str {
    fn from(SignalName(signal): SignalName) -> Self {
        signal.name()
    }
}

/// How hard a stop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "see `StopSeverity`")]
pub enum Severity {
    Graceful,
    Quick,
    Abort,
    Kill,
}

impl From<StopSeverity> for Severity {
    fn from(severity: StopSeverity) -> Self {
        match severity {
            StopSeverity::Graceful => Severity::Graceful,
            StopSeverity::Quick => Severity::Quick,
            StopSeverity::Abort => Severity::Abort,
            StopSeverity::Kill => Severity::Kill,
        }
    }
}

impl From<Severity> for StopSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Graceful => StopSeverity::Graceful,
            Severity::Quick => StopSeverity::Quick,
            Severity::Abort => StopSeverity::Abort,
            Severity::Kill => StopSeverity::Kill,
        }
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReadyWhen {
    Auto,
    Notify,
    Heartbeat,
    Delay(Duration),
    Exec,
    Fd(i32),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SurgeOf {
    Workers(usize),
    Percent(u32),
}

/// The settings of a generation. What an image of an older version did not know yet, it did not do:
/// a missing field has the default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    ready: ReadyWhen,
    start_timeout: Option<Duration>,
    timeout: Option<Duration>,
    abort_signal: SignalName,
    graceful_signal: SignalName,
    graceful_timeout: Duration,
    quick_signal: SignalName,
    quick_timeout: Duration,
    term: Severity,
    stop_delay: Option<Duration>,
    drain_queue: bool,
    max_draining: Option<usize>,
    surge: SurgeOf,
    canary: Option<Duration>,
    /// Not yet in the format's first version, whose canary was off where it had no time.
    #[serde(default)]
    canary_auto: bool,
    probation: Option<Duration>,
    start_failures: u32,
    backoff: (Duration, Duration),
    give_up: Option<u32>,
    fatal_exit: Vec<i32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::from(&Policy::default())
    }
}

impl From<&Policy> for Settings {
    fn from(policy: &Policy) -> Self {
        Settings {
            ready: match policy.ready {
                Readiness::Auto => ReadyWhen::Auto,
                Readiness::Notify => ReadyWhen::Notify,
                Readiness::Heartbeat => ReadyWhen::Heartbeat,
                Readiness::Delay(delay) => ReadyWhen::Delay(delay),
                Readiness::Exec => ReadyWhen::Exec,
                Readiness::Fd(fd) => ReadyWhen::Fd(fd),
            },
            start_timeout: policy.start_timeout,
            timeout: policy.timeout,
            abort_signal: SignalName(policy.abort_signal),
            graceful_signal: SignalName(policy.graceful_signal),
            graceful_timeout: policy.graceful_timeout,
            quick_signal: SignalName(policy.quick_signal),
            quick_timeout: policy.quick_timeout,
            term: policy.term.into(),
            stop_delay: policy.stop_delay,
            drain_queue: policy.drain_queue,
            max_draining: policy.max_draining,
            surge: match policy.surge {
                Surge::Workers(workers) => SurgeOf::Workers(workers),
                Surge::Percent(percent) => SurgeOf::Percent(percent),
            },
            canary: match policy.canary {
                Canary::Auto | Canary::Off => None,
                Canary::After(trial) => Some(trial),
            },
            canary_auto: policy.canary == Canary::Auto,
            probation: policy.probation,
            start_failures: policy.start_failures,
            backoff: policy.backoff,
            give_up: policy.give_up,
            fatal_exit: policy.fatal_exit.clone(),
        }
    }
}

impl From<Settings> for Policy {
    fn from(settings: Settings) -> Self {
        Policy {
            ready: match settings.ready {
                ReadyWhen::Auto => Readiness::Auto,
                ReadyWhen::Notify => Readiness::Notify,
                ReadyWhen::Heartbeat => Readiness::Heartbeat,
                ReadyWhen::Delay(delay) => Readiness::Delay(delay),
                ReadyWhen::Exec => Readiness::Exec,
                ReadyWhen::Fd(fd) => Readiness::Fd(fd),
            },
            start_timeout: settings.start_timeout,
            timeout: settings.timeout,
            abort_signal: settings.abort_signal.0,
            graceful_signal: settings.graceful_signal.0,
            graceful_timeout: settings.graceful_timeout,
            quick_signal: settings.quick_signal.0,
            quick_timeout: settings.quick_timeout,
            term: settings.term.into(),
            stop_delay: settings.stop_delay,
            drain_queue: settings.drain_queue,
            max_draining: settings.max_draining,
            surge: match settings.surge {
                SurgeOf::Workers(workers) => Surge::Workers(workers),
                SurgeOf::Percent(percent) => Surge::Percent(percent),
            },
            canary: match settings.canary {
                Some(trial) => Canary::After(trial),
                None if settings.canary_auto => Canary::Auto,
                None => Canary::Off,
            },
            probation: settings.probation,
            start_failures: settings.start_failures,
            backoff: settings.backoff,
            give_up: settings.give_up,
            fatal_exit: settings.fatal_exit,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    #[default]
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// What a service manager was told so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportedToManager {
    stage: Stage,
    main_pid: Option<u32>,
    status: String,
}

impl From<&Reported> for ReportedToManager {
    fn from(reported: &Reported) -> Self {
        ReportedToManager {
            stage: match reported.stage {
                ServiceStage::Starting => Stage::Starting,
                ServiceStage::Ready => Stage::Ready,
                ServiceStage::Reloading => Stage::Reloading,
                ServiceStage::Stopping => Stage::Stopping,
            },
            main_pid: reported.main_pid,
            status: reported.status.clone(),
        }
    }
}

impl From<ReportedToManager> for Reported {
    fn from(reported: ReportedToManager) -> Self {
        Reported {
            stage: match reported.stage {
                Stage::Starting => ServiceStage::Starting,
                Stage::Ready => ServiceStage::Ready,
                Stage::Reloading => ServiceStage::Reloading,
                Stage::Stopping => ServiceStage::Stopping,
            },
            main_pid: reported.main_pid,
            status: reported.status,
        }
    }
}

/// A kind of operation, by its word.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct KindName(pub OperationKind);

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let kind = OperationKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name);
        kind.map(KindName)
            .ok_or_else(|| format!("unknown operation '{name}'"))
    }
}

impl From<KindName> for &'static str {
    fn from(KindName(kind): KindName) -> Self {
        kind.name()
    }
}

/// What `--ready auto` has learnt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Learnt {
    /// Each generation, and the first one of its command.
    commands: Vec<(u64, u64)>,
    /// The first generations of those commands whose workers notify.
    notify: Vec<u64>,
}

impl From<&ReadinessMemory> for Learnt {
    fn from(memory: &ReadinessMemory) -> Self {
        let commands = memory.first_of_command.iter();
        Learnt {
            commands: commands.map(|(one, first)| (one.0, first.0)).collect(),
            notify: memory.notifying.iter().map(|first| first.0).collect(),
        }
    }
}

impl From<Learnt> for ReadinessMemory {
    fn from(learnt: Learnt) -> Self {
        let commands = learnt.commands.into_iter();
        ReadinessMemory {
            first_of_command: commands
                .map(|(one, first)| (Generation(one), Generation(first)))
                .collect(),
            notifying: learnt.notify.into_iter().map(Generation).collect(),
        }
    }
}
