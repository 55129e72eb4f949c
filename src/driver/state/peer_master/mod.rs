//! The master beside this one: its process, and the link to it (a socketpair).
//!
//! - [`PeerMaster`]: this file;
//! - `handover`: an old master that drains goes from one image of this master to the next.

mod handover;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::model::exit::ExitStatus;
use crate::model::peer::{PeerEvent, PeerMessage};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::control;
use crate::sys::files::pidfile;
use crate::sys::io::poll::{Interest, NestedEpoll, Poller};
use crate::sys::io::seqpacket::{Link, Message};
use crate::sys::process::fork_master::ForkedMaster;
use crate::sys::process::pidfd;
use crate::sys::process::{descendants, wait};
use crate::wire::events::kept::EventMessage;
use crate::wire::names::ack_path;
use crate::wire::peer::{LONGEST, parse, render};

/// How long after the end of the link the process itself may take to end: a process closes its
/// descriptors a moment before it is gone.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How long sending or receiving may fail before the link counts as lost. It is shorter than the
/// time that a silent master has, so that a master whose own link fails does not blame the other.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// How long after a failure the link is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// The tokens of the two descriptors.
const LINK: u64 = 0;
const PROCESS: u64 = 1;

/// The other master during an upgrade by fork: the new one for the old, the old one for the new.
pub(in crate::driver) struct PeerMaster {
    link: Link,
    /// A message that was received already.
    early: Option<Message>,
    /// The link and the pidfd, as one descriptor.
    epoll: NestedEpoll,
    /// Whether the link is in it. It is not while the link fails: it would be ready all the time.
    is_watched: bool,
    pid: i32,
    /// Before the child of this master is forked: none.
    process: Option<OwnedFd>,
    /// The child that this master has started: the new master, or a wrapper that starts it in turn.
    forked: Option<ForkedMaster>,
    /// The other master runs: the old one always, a new one since its hello.
    is_up: bool,
    /// When the link has ended.
    link_ended_at: Option<Time>,
    /// Sending, receiving or watching fails: since when, the last try, and why.
    trouble: Option<Trouble>,
    /// That the link is lost was told.
    is_lost: bool,
    /// What it has said of events.
    about_events: Vec<EventMessage>,
    /// Empty for a new master.
    old_paths: OldPaths,
}

struct Trouble {
    since: Time,
    last: Time,
    why: String,
}

/// The paths that an old master has moved its own to.
#[derive(Default)]
pub(in crate::driver) struct OldPaths {
    pub(in crate::driver) pid_file: Option<PathBuf>,
    pub(in crate::driver) control: Option<PathBuf>,
}

impl PeerMaster {
    /// The link to a new master that is not forked yet: all that can fail without it.
    ///
    /// # Errors
    /// epoll refuses.
    pub(in crate::driver) fn not_started(link: Link) -> io::Result<PeerMaster> {
        let epoll = NestedEpoll::new()?;
        epoll.add(link.as_fd(), LINK, Interest::READ)?;
        Ok(PeerMaster::over(link, epoll))
    }

    fn over(link: Link, epoll: NestedEpoll) -> PeerMaster {
        PeerMaster {
            link,
            early: None,
            epoll,
            is_watched: true,
            pid: 0,
            process: None,
            is_up: false,
            forked: None,
            link_ended_at: None,
            trouble: None,
            is_lost: false,
            about_events: Vec::new(),
            old_paths: OldPaths::default(),
        }
    }

    /// The new master, which has just been forked. If it cannot be watched, it is ended: a master
    /// that is started and not known would be a second service.
    ///
    /// # Errors
    /// pidfd_open(2) or epoll refuses; the child is gone.
    pub(in crate::driver) fn started(mut self, forked: ForkedMaster) -> io::Result<PeerMaster> {
        match self.watch_process(forked.pid) {
            Ok(()) => {
                self.forked = Some(forked);
                Ok(self)
            }
            Err(error) => {
                forked.end();
                Err(error)
            }
        }
    }

    /// The old master: the link to it, with a message that was received already; its pid and a
    /// pidfd (None: it is known to be gone).
    ///
    /// # Errors
    /// epoll refuses.
    pub(in crate::driver) fn old_master(
        (link, early): (Link, Option<Message>),
        (pid, process): (i32, Option<OwnedFd>),
        old_paths: OldPaths,
    ) -> io::Result<PeerMaster> {
        let peer = PeerMaster::not_started(link)?;
        if let Some(process) = &process {
            peer.epoll.add(process.as_fd(), PROCESS, Interest::READ)?;
        }
        Ok(PeerMaster {
            early,
            pid,
            process,
            is_up: true,
            old_paths,
            ..peer
        })
    }

    fn watch_process(&mut self, pid: i32) -> io::Result<()> {
        let process = pidfd::open_process(pid)?;
        self.epoll.add(process.as_fd(), PROCESS, Interest::READ)?;
        if let Some(before) = self.process.replace(process) {
            let _ = self.epoll.remove(before.as_fd());
        }
        self.pid = pid;
        Ok(())
    }

    pub(in crate::driver) fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has sent something, or has ended.
    pub(in crate::driver) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.fd()
    }

    /// When to read again though nothing is readable.
    pub(in crate::driver) fn deadline(&self) -> Option<Time> {
        if self.is_lost {
            return None;
        }
        if let Some(trouble) = &self.trouble {
            return Some(trouble.last + TRY_AGAIN);
        }
        let early = self.early.as_ref().map(|_| Time(0));
        early.or(self.link_ended_at.map(|at| at + END_WITHIN))
    }

    /// Sends a message, at once or when the link has room for it.
    pub(in crate::driver) fn send(&mut self, message: &PeerMessage, now: Time) {
        self.send_text(render(message), now);
    }

    /// The same, about events.
    pub(in crate::driver) fn send_event(&mut self, message: &EventMessage, now: Time) {
        self.send_text(message.render(), now);
    }

    fn send_text(&mut self, text: Vec<u8>, now: Time) {
        if let Err(error) = self.link.send(text) {
            self.fails(now, "cannot send to it", &error);
        }
        self.watch_link(now);
    }

    /// Whether a message would be sent at once: the link works, and nothing waits in it.
    pub(in crate::driver) fn has_room(&self) -> bool {
        !self.is_lost && !self.link.wants_write()
    }

    fn fails(&mut self, now: Time, what: &str, error: &io::Error) {
        let why = format!("{what}: {}", reason(error));
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        let last = now;
        self.trouble = Some(Trouble { since, last, why });
    }

    /// Watches the link, but not while it fails or after its end: it would be ready all the time.
    fn watch_link(&mut self, now: Time) {
        let interest = Interest {
            read: true,
            write: self.link.wants_write(),
        };
        let wanted = self.trouble.is_none() && self.link_ended_at.is_none();
        let changed = match (self.is_watched, wanted) {
            (false, false) => return,
            (false, true) => self.epoll.add(self.link.as_fd(), LINK, interest),
            (true, true) => self.epoll.modify(self.link.as_fd(), LINK, interest),
            (true, false) => self.epoll.remove(self.link.as_fd()),
        };
        match changed {
            Ok(()) => self.is_watched = wanted,
            Err(error) => self.fails(now, "cannot watch the link to it", &error),
        }
    }

    /// Kills it, and the wrapper that has started it.
    ///
    /// Before its hello, every descendant of the wrapper may be about to become the new master, and
    /// has the listeners.
    pub(in crate::driver) fn kill(&self) {
        let starter = self.forked.as_ref().map(|forked| forked.pid);
        if let Some(starter) = starter.filter(|_| !self.is_up) {
            // So that no process is started, or becomes an orphan, while /proc is read.
            self.signal(Signal::Stop);
            // The wrapper is our child and not reaped, so its number is its own.
            descendants::kill_descendants(starter, &|| true);
        }
        self.signal(Signal::Kill);
        // Not reaped, so the number is its own.
        if let Some(pid) = starter.filter(|pid| *pid != self.pid)
            && matches!(wait::peek(pid), Ok(None))
            && let Ok(process) = pidfd::open_process(pid)
        {
            let _ = pidfd::pidfd_signal(&process, Signal::Kill);
        }
    }

    pub(in crate::driver) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // That it has ended is found by `read`.
            let _ = pidfd::pidfd_signal(process, signal);
        }
    }

    /// What it has said of events since this was asked last.
    pub(in crate::driver) fn take_events(&mut self) -> Vec<EventMessage> {
        std::mem::take(&mut self.about_events)
    }

    /// What it has sent, and its end.
    pub(in crate::driver) fn read(&mut self, now: Time) -> Vec<PeerEvent> {
        // Asked before its messages are read: so none of them is missed.
        let ended = self.has_ended();
        let mut all = Vec::new();
        let trouble = self.trouble.take();
        if let Err((what, error)) = self.exchange(&mut all) {
            self.trouble = trouble;
            self.fails(now, what, &error);
        }
        if ended {
            all.retain(PeerEvent::outlives_its_master);
            all.push(PeerEvent::Exited(self.exit_message()));
            return all;
        }
        if self.link.has_ended() && self.link_ended_at.is_none() {
            self.link_ended_at = Some(now);
        }
        self.watch_link(now);
        if let Some(why) = self.why_lost(now).filter(|_| !self.is_lost) {
            self.is_lost = true;
            all.push(PeerEvent::LinkLost(why));
        }
        all
    }

    /// Sends what waits and reads what is there.
    fn exchange(
        &mut self,
        all: &mut Vec<PeerEvent>,
    ) -> std::result::Result<(), (&'static str, io::Error)> {
        let sent = self.link.flush();
        loop {
            let early = self.early.take().map(|message| Ok(Some(message)));
            let next = early.unwrap_or_else(|| self.link.receive(LONGEST));
            let Some(datagram) = next.map_err(|error| ("cannot receive from it", error))? else {
                break;
            };
            let Some(message) = parse(&datagram.text) else {
                self.about_events
                    .extend(EventMessage::parse(&datagram.text));
                continue;
            };
            if let PeerMessage::Hello(pid) = message
                && let Err(error) = self.follow(pid)
            {
                // It counts as up only once its end can be seen.
                self.early = Some(datagram);
                return Err(("cannot watch its process", error));
            }
            all.push(PeerEvent::Said(message));
        }
        sent.map_err(|error| ("cannot send to it", error))
    }

    /// Why nothing more will come over the link, though the other master lives.
    fn why_lost(&self, now: Time) -> Option<String> {
        if self.link_ended_at.is_some_and(|at| now >= at + END_WITHIN) {
            return Some("it has closed the link, and lives".to_owned());
        }
        let trouble = self.trouble.as_ref()?;
        (now >= trouble.since + LOST_AFTER).then(|| trouble.why.clone())
    }

    fn has_ended(&self) -> bool {
        match &self.process {
            // It was gone before a pidfd could be opened: nothing else means that.
            None => true,
            Some(process) => Poller::new()
                .wait(&[(process.as_fd(), Interest::READ)], Some(Time(0)))
                .is_ok_and(|ready| ready.iter().any(|ready| ready.any())),
        }
    }

    /// The new master is up. It may be a child of the process that was forked.
    fn follow(&mut self, pid: i32) -> io::Result<()> {
        if pid != self.pid {
            self.watch_process(pid)?;
        }
        self.is_up = true;
        Ok(())
    }

    /// How it has ended, in words.
    fn exit_message(&mut self) -> String {
        let Some(forked) = &mut self.forked else {
            return "is gone".to_owned();
        };
        // The wrapper, if there is one, is reaped here too.
        let ended = wait::reap(forked.pid).ok().flatten();
        if let Some(why) = forked.failure() {
            return format!("could not be started: {why}");
        }
        let before = if self.is_up { "" } else { " before it stood" };
        match ended {
            Some(ended) if forked.pid == self.pid => format!("{}{before}", ExitStatus::from(ended)),
            _ => format!("has ended{before}"),
        }
    }

    /// Removes einhorn's socket of a master that is gone; `control`: the plain path of the control
    /// socket.
    pub(in crate::driver) fn remove_ack_socket(&self, control: &Path, log: &Log) {
        let path = ack_path(control, self.pid.unsigned_abs());
        if let Err(error) = control::remove_dead(&path) {
            log.warn(format_args!("{error}"));
        }
    }

    /// Removes the paths of an old master that is gone.
    pub(in crate::driver) fn remove_old_paths(&self, log: &Log) {
        let OldPaths { pid_file, control } = &self.old_paths;
        if let Some(path) = control
            && let Err(error) = control::remove_dead(path)
        {
            log.warn(format_args!("{error}"));
        }
        if let Some(path) = pid_file
            && let Err(error) = pidfile::remove_stale(path)
        {
            let path = path.display();
            log.warn(format_args!("cannot remove pid file {path}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests;
