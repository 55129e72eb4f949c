//! One worker's process.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::driver::pin::Pin;
use crate::model::event::{Event, Saying, WorkerId};
use crate::model::time::Time;
use crate::sys::heartbeat::file::Beat;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::guard::StopTerms;
use crate::wire::notify::Message;

/// One worker's process.
pub(in crate::driver) struct Process {
    pub(in crate::driver) id: WorkerId,
    pub(in crate::driver) group: Group,
    /// What the guard has to know of it.
    pub(super) terms: StopTerms,
    pub(in crate::driver) beat: Beat,
    pub(in crate::driver) last_beat: Option<Time>,
    /// Its last `STATUS=`.
    pub(in crate::driver) status: Option<String>,
    /// Its leader has been reaped; the rest of its group lives.
    pub(in crate::driver) leaderless: bool,
    pub(super) notify: NotifySocket,
    pub(super) outcome: Option<OwnedFd>,
    pub(super) about_to_execute: bool,
    pub(super) ready: Option<File>,
}

/// What a descriptor of a worker is for; with the worker's id it makes the token in the nest.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Outcome = 0,
    Notify = 1,
    Ready = 2,
    /// No worker's own: where einhorn's acks are heard.
    Acks = 3,
}

impl Process {
    /// Its page has changed, or it said `WATCHDOG=1`.
    pub(in crate::driver) fn beat(&mut self, now: Time) -> Event {
        self.last_beat = Some(now);
        Event::Said(self.id, Saying::Beat)
    }

    pub(super) fn said(&mut self, id: WorkerId, now: Time, message: Message) -> Option<Event> {
        match message {
            Message::Ready => Some(Event::Said(id, Saying::Ready)),
            Message::Stopping => Some(Event::Said(id, Saying::Stopping)),
            Message::Watchdog => Some(self.beat(now)),
            Message::Status(text) => {
                self.status = (!text.is_empty()).then_some(text);
                None
            }
            Message::WatchdogTrigger => Some(Event::Said(id, Saying::Trigger)),
            Message::WatchdogUsec(micros) => Some(Event::Said(
                id,
                Saying::Watchdog(Duration::from_micros(micros)),
            )),
            Message::ExtendTimeoutUsec(micros) => Some(Event::Said(
                id,
                Saying::Extend(Duration::from_micros(micros)),
            )),
            // A barrier is answered by closing the descriptor that came along, which has happened by now.
            Message::Barrier | Message::Reloading | Message::MainPid(_) => None,
        }
    }

    /// Whether its own program runs: before that its signal handlers are the master's.
    pub(in crate::driver) fn is_executed(&self) -> bool {
        self.outcome.is_none() && !self.leaderless
    }

    pub(super) fn descriptors(&self) -> Vec<(BorrowedFd<'_>, Use)> {
        let mut all = vec![(self.notify.fd(), Use::Notify)];
        all.extend(self.outcome.as_ref().map(|fd| (fd.as_fd(), Use::Outcome)));
        all.extend(self.ready.as_ref().map(|file| (file.as_fd(), Use::Ready)));
        all
    }
}

pub(super) fn terms(pin: &Pin) -> StopTerms {
    StopTerms {
        signal: pin.policy.graceful_signal,
        timeout: pin.policy.graceful_timeout,
    }
}

/// The token of a descriptor in the nest.
pub(super) fn token(id: WorkerId, what: Use) -> u64 {
    id.0 * 4 + what as u64
}
