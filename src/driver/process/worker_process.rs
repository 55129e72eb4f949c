//! One worker's process.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::Processes;
use super::token::{Source, Token};
use crate::driver::pin::Pin;
use crate::model::counters::Work;
use crate::model::event::{Event, WorkerMessage};
use crate::model::ids::WorkerId;
use crate::model::time::Time;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::guard::StopTerms;
use crate::sys::process::proc_info::{self, Usage};
use crate::wire::notify::Message;

/// How long what a worker uses is taken as known. A client that asks for the status again and again
/// must not cost a read of /proc for each worker each time.
const USAGE_FOR: Duration = Duration::from_millis(250);

/// One worker's process, with the descriptors that belong to it.
pub(in crate::driver) struct WorkerProcess {
    pub(in crate::driver) id: WorkerId,
    pub(in crate::driver) group: Group,
    /// How the guard stops its group, should the master die.
    pub(super) stop_terms: StopTerms,
    pub(in crate::driver) beat: HeartbeatFile,
    pub(in crate::driver) last_beat: Option<Time>,
    /// The text of its last `STATUS=`.
    pub(in crate::driver) status: Option<String>,
    /// It was sent a signal that is to end it.
    pub(in crate::driver) is_told: bool,
    /// The leader has been reaped; the rest of the group lives.
    pub(in crate::driver) leaderless: bool,
    /// A pidfd of the leader, readable when the leader has ended. None: the kernel gave none or the
    /// leader was reaped.
    pub(super) exit: Option<OwnedFd>,
    pub(super) notify: NotifySocket,
    /// Reports whether its program was executed; None: that is known.
    pub(super) spawn_outcome: Option<OwnedFd>,
    pub(super) about_to_execute: bool,
    pub(super) ready_pipe: Option<File>,
    /// What it has done, as far as that was told to the model.
    pub(super) counted: Work,
    /// What its group used when that was last looked at, and when that was.
    pub(super) usage: Cell<Option<(Time, Usage)>>,
}

impl WorkerProcess {
    /// What its group used when that was last looked at; None: it has no leader any more.
    pub(in crate::driver) fn last_usage(&self) -> Option<Usage> {
        let (_, usage) = self.usage.get().filter(|_| !self.leaderless)?;
        Some(usage)
    }

    /// Whether what its group uses is to be looked at again.
    fn wants_look_at_usage(&self, now: Time) -> bool {
        let at = self.usage.get().map(|(at, _)| at);
        !self.leaderless && at.is_none_or(|at| now.since(at) >= USAGE_FOR)
    }

    /// Its heartbeat page has changed, or it sent `WATCHDOG=1`.
    pub(in crate::driver) fn beat(&mut self, now: Time) -> Event {
        self.last_beat = Some(now);
        Event::Said(self.id, WorkerMessage::Beat)
    }

    /// What it has done since that was last told, as its page and its group's usage show.
    fn new_work(&mut self) -> Option<Event> {
        let page = self.beat.page();
        // A worker may count only those that are open. One that miscounts has fewer than none.
        let open = page.open.cast_signed().max(0).cast_unsigned();
        let seen = Work {
            requests: page.finished,
            connections: page.connections.max(open),
            cpu: self
                .usage
                .get()
                .map_or(Duration::ZERO, |(_, usage)| usage.cpu),
        };
        let new = seen.since(&self.counted);
        self.counted = seen.at_least(&self.counted);
        (new != Work::default()).then_some(Event::Worked(self.id, new))
    }

    /// The same, now that its leader has ended, or its group: the last look.
    pub(super) fn last_work(&mut self, now: Time) -> Option<Event> {
        let _ = self.beat.check_for_beat();
        // A leader that is not reaped yet still has its times.
        if !self.leaderless
            && let Some(last) = proc_info::usage(self.group.leader())
        {
            self.usage.set(Some((now, last)));
        }
        self.new_work()
    }

    /// What a notification means to the model.
    pub(super) fn notified(&mut self, now: Time, message: Message) -> Option<Event> {
        let saying = match message {
            Message::Ready => WorkerMessage::Ready,
            Message::Stopping => WorkerMessage::Stopping,
            Message::Watchdog => return Some(self.beat(now)),
            Message::Status(text) => {
                self.status = (!text.is_empty()).then_some(text);
                return None;
            }
            Message::WatchdogTrigger => WorkerMessage::Trigger,
            Message::WatchdogUsec(micros) => WorkerMessage::Watchdog(Duration::from_micros(micros)),
            Message::ExtendTimeoutUsec(micros) => {
                WorkerMessage::Extend(Duration::from_micros(micros))
            }
            // A barrier is answered by closing the descriptor that came with it: done already.
            Message::Barrier | Message::Reloading | Message::MainPid(_) => return None,
        };
        Some(Event::Said(self.id, saying))
    }

    /// Whether its own program runs: until then its signal handlers are the master's.
    pub(in crate::driver) fn is_executed(&self) -> bool {
        self.spawn_outcome.is_none() && !self.leaderless
    }

    /// The descriptors that are watched for what the worker sends.
    pub(super) fn watched(&self) -> Vec<(BorrowedFd<'_>, Token)> {
        let token = |source| Token::of_worker(self.id, source);
        let mut all = vec![(self.notify.fd(), token(Source::NotifySocket))];
        let outcome = self.spawn_outcome.as_ref();
        all.extend(outcome.map(|fd| (fd.as_fd(), token(Source::SpawnOutcome))));
        let ready = self.ready_pipe.as_ref();
        all.extend(ready.map(|file| (file.as_fd(), token(Source::ReadyPipe))));
        all
    }
}

/// How the guard stops the workers of this pin.
pub(super) fn stop_terms(pin: &Pin) -> StopTerms {
    StopTerms {
        signal: pin.policy.graceful_signal,
        timeout: pin.policy.graceful_timeout,
    }
}

impl Processes {
    /// What all workers have done since that was last told. Their pages have just been looked at.
    pub(in crate::driver) fn count_work(&mut self, now: Time) -> Vec<Event> {
        self.look_at_usage(now);
        let each = self.all_mut();
        each.filter_map(WorkerProcess::new_work).collect()
    }

    /// Looks at what the groups use, where that is not known well enough: one scan for all.
    pub(in crate::driver) fn look_at_usage(&self, now: Time) {
        let wanted = self
            .all()
            .filter(|process| process.wants_look_at_usage(now));
        let leaders: Vec<i32> = wanted.map(|process| process.group.leader()).collect();
        if leaders.is_empty() {
            return;
        }
        let usages = proc_info::groups_usage(&leaders);
        for process in self.all() {
            if let Some(usage) = usages.get(&process.group.leader()) {
                process.usage.set(Some((now, *usage)));
            }
        }
    }
}
