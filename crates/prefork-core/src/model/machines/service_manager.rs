//! What the master reports to the service manager above it (systemd's protocol, sd_notify(3)), as
//! a small pure machine of its own. The driver runs it (`driver::service_manager`).
//!
//! After each turn of its loop the driver takes a [`ServiceSummary`] of the supervisor, and
//! [`ServiceNotifier::next_message`] compares it with what the manager was told before: the
//! difference is the next message. So a message that could not be sent needs no queue: the next
//! comparison sends the state that holds by then.
//!
//! One thing is an event and no state: that a reload began. It may be over within the turn, and a
//! manager that asked for it by a signal (`Type=notify-reload`, systemd.service(5)) waits for
//! `RELOADING=1`.
//!
//! Reading order: [`ServiceSummary`], [`ServiceNotice`], [`Reported`], [`ServiceNotifier`]; at
//! the end `Supervisor::service_summary`.

use std::time::Duration;

use crate::model::fact::text::workers as count_workers;
use crate::model::ids::Generation;
use crate::model::operation::OperationKind;
use crate::model::state::snapshot::ServiceState;
use crate::model::time::Time;

/// The least time between two status lines. They are for people; what the manager acts on is
/// sent at once.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// The first and the longest wait before a message is tried again that the manager had no room
/// for; each further failure doubles the wait.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The least time between two `WATCHDOG=1`, however short `WATCHDOG_USEC` is.
const MIN_WATCHDOG_EVERY: Duration = Duration::from_millis(1);

/// The longest status line, in bytes.
const MAX_STATUS: usize = 512;

/// One part of a message to the manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceNotice {
    /// The process that the manager should watch.
    MainPid(u32),
    /// The service is up, or its reload is over.
    Ready,
    /// A reload began at this time of the monotonic clock.
    Reloading(Time),
    /// The service is stopping.
    Stopping,
    /// The master's loop is alive.
    Watchdog,
    /// The state in one line for people.
    Status(String),
}

/// How far the service is, in the manager's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ServiceStage {
    #[default]
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// What the manager was told so far: plain values, which are kept across an exec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported {
    /// The stage that the manager believes.
    pub stage: ServiceStage,
    /// The last `MAINPID=`, if there was one.
    pub main_pid: Option<u32>,
    /// The last `STATUS=`.
    pub status: String,
}

/// The supervisor's state, as far as the manager is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// How far the service is.
    pub stage: ServiceStage,
    /// What the service is about.
    pub state: ServiceState,
    /// The generation that serves.
    pub generation: Generation,
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers in any state.
    pub workers: usize,
    /// The rollout that runs: its kind, its generation, and how many slots that generation has
    /// made ready.
    pub rollout: Option<(OperationKind, Generation, usize)>,
    /// Why the last rollout failed, or why the service stops although no request asked for it.
    pub trouble: Option<String>,
}

/// The state before a message, to go back to if the message cannot be sent.
#[derive(Debug, Clone)]
struct Undo {
    reported: Reported,
    reload_began: Option<Time>,
    watchdog_at: Option<Time>,
}

/// The machine: decides what the manager is told, and when.
#[derive(Debug, Clone)]
pub struct ServiceNotifier {
    pid: u32,
    reported: Reported,
    /// When the last status line was sent.
    status_at: Option<Time>,
    /// When the status line may be sent that came too soon after the last one.
    status_due: Option<Time>,
    /// When a reload began of which the manager was not told yet.
    reload_began: Option<Time>,
    /// The summary that the last status line was made from.
    last_summary: Option<ServiceSummary>,
    undo: Option<Undo>,
    watchdog_every: Option<Duration>,
    watchdog_at: Option<Time>,
    /// When to try again to send a message, and how long that wait is.
    retry: Option<(Time, Duration)>,
    /// Another process reports for the service.
    is_silent: bool,
}

impl ServiceNotifier {
    /// A notifier of the process `pid`. `reported`: what an image of the master before an exec
    /// has told the manager, or the default. `watchdog`: the manager's `WATCHDOG_USEC`.
    pub fn new(pid: u32, watchdog: Option<Duration>, reported: Reported, now: Time) -> Self {
        // Half the limit, as sd_watchdog_enabled(3) recommends.
        let every = watchdog.map(|limit| (limit / 2).max(MIN_WATCHDOG_EVERY));
        ServiceNotifier {
            pid,
            reported,
            status_at: None,
            status_due: None,
            reload_began: None,
            last_summary: None,
            undo: None,
            watchdog_every: every,
            // At once: it is not known how much of the limit is over.
            watchdog_at: every.map(|_| now),
            retry: None,
            is_silent: false,
        }
    }

    /// What the manager was told so far.
    pub fn reported(&self) -> &Reported {
        &self.reported
    }

    /// A reload begins now. Call this when it begins: it may be over before the next summary.
    pub fn reload_begins(&mut self, now: Time) {
        self.reload_began = Some(now);
    }

    /// From now on the process `pid` is the service: returns this process's last message.
    pub fn hand_over(&mut self, pid: u32) -> Vec<ServiceNotice> {
        self.is_silent = true;
        vec![ServiceNotice::MainPid(pid)]
    }

    /// Reports everything once more: the manager ignored this process so far, or this process is
    /// the service again.
    pub fn report_all_again(&mut self) {
        self.is_silent = false;
        self.reported = Reported::default();
        self.last_summary = None;
        self.status_at = None;
    }

    /// When to call [`next_message`](Self::next_message) next if nothing happens before.
    pub fn deadline(&self) -> Option<Time> {
        if self.is_silent {
            return None;
        }
        match self.retry {
            Some((at, _)) => Some(at),
            None => [self.watchdog_at, self.status_due]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// The next message, to be sent as one datagram. After each message call
    /// [`message_sent`](Self::message_sent) or [`message_failed`](Self::message_failed), then ask
    /// again, until there is none.
    pub fn next_message(
        &mut self,
        now: Time,
        summary: &ServiceSummary,
    ) -> Option<Vec<ServiceNotice>> {
        if self.is_silent || self.retry.is_some_and(|(at, _)| at > now) {
            return None;
        }
        let undo = Undo {
            reported: self.reported.clone(),
            reload_began: self.reload_began,
            watchdog_at: self.watchdog_at,
        };
        let mut message = Vec::new();
        if self.reported.main_pid != Some(self.pid) {
            message.push(ServiceNotice::MainPid(self.pid));
            self.reported.main_pid = Some(self.pid);
        }
        message.extend(self.stage_notice(now, summary.stage));
        message.extend(self.status_notice(now, summary, !message.is_empty()));
        if let Some(every) = self.watchdog_every
            && self.watchdog_at.is_some_and(|at| at <= now)
        {
            message.push(ServiceNotice::Watchdog);
            self.watchdog_at = Some(now + every);
        }
        if message.is_empty() {
            return None;
        }
        self.undo = Some(undo);
        Some(message)
    }

    /// The last message was sent.
    pub fn message_sent(&mut self) {
        self.undo = None;
        self.retry = None;
    }

    /// The last message could not be sent. `may_pass`: the manager may have room for it later;
    /// what is sent then is the state at that time.
    pub fn message_failed(&mut self, now: Time, may_pass: bool) {
        let undo = self.undo.take();
        let last = self.retry.take();
        if let (true, Some(undo)) = (may_pass, undo) {
            let (least, most) = RETRY;
            let most = self.watchdog_every.map_or(most, |every| every.min(most));
            let wait = last.map_or(least, |(_, last)| last * 2).min(most);
            self.retry = Some((now + wait, wait));
            self.reported = undo.reported;
            self.reload_began = undo.reload_began;
            self.watchdog_at = undo.watchdog_at;
            self.last_summary = None;
        }
    }

    /// At most one change of the stage a message: a manager may read the lines of one datagram in
    /// any order, so the beginning and the end of a reload must be two messages.
    fn stage_notice(&mut self, now: Time, stage: ServiceStage) -> Option<ServiceNotice> {
        use ServiceStage::{Ready, Reloading, Starting, Stopping};
        let last = std::mem::replace(&mut self.reported.stage, stage);
        match (stage, last) {
            (Stopping, _) => {
                self.reload_began = None;
                (last != stage).then_some(ServiceNotice::Stopping)
            }
            // The service is not up, so there is nothing that could be reloaded.
            (Starting, _) => {
                self.reported.stage = last;
                None
            }
            // READY=1 comes first; a reload that was asked for meanwhile is the next message.
            (Ready | Reloading, Starting) => {
                self.reported.stage = Ready;
                Some(ServiceNotice::Ready)
            }
            (Ready | Reloading, _) if self.reload_began.is_some() => {
                self.reported.stage = Reloading;
                self.reload_began.take().map(ServiceNotice::Reloading)
            }
            // A rollout without `reload_begins`: that of an upgrade.
            (Reloading, _) => (last != stage).then_some(ServiceNotice::Reloading(now)),
            (Ready, _) => (last != stage).then_some(ServiceNotice::Ready),
        }
    }

    fn status_notice(
        &mut self,
        now: Time,
        summary: &ServiceSummary,
        at_once: bool,
    ) -> Option<ServiceNotice> {
        if self.last_summary.as_ref() != Some(summary) || self.status_due.is_some() {
            self.last_summary = Some(summary.clone());
            self.status_due = None;
            let line = status_line(summary);
            if line == self.reported.status {
                return None;
            }
            let due = self.status_at.map_or(now, |at| at + STATUS_EVERY);
            if !at_once && due > now {
                self.status_due = Some(due);
                return None;
            }
            self.status_at = Some(now);
            self.reported.status.clone_from(&line);
            return Some(ServiceNotice::Status(line));
        }
        None
    }
}

/// The state in one line, without control characters.
fn status_line(summary: &ServiceSummary) -> String {
    let ServiceSummary {
        generation,
        wanted,
        ready,
        workers,
        ..
    } = summary;
    let mut line = match (summary.state, &summary.rollout) {
        (ServiceState::Stopping, _) => format!("stopping, {} left", count_workers(*workers)),
        (ServiceState::Paused, _) => "paused".to_owned(),
        (_, Some((kind, to, done))) => {
            format!("{kind}: {done} of {wanted} workers of generation {to} ready")
        }
        _ => format!("{ready} of {wanted} workers ready, generation {generation}"),
    };
    if let Some(trouble) = &summary.trouble {
        line.push_str("; ");
        line.push_str(trouble);
    }
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .scan(0, |length, letter| {
            *length += letter.len_utf8();
            (*length <= MAX_STATUS).then_some(letter)
        })
        .collect()
}
