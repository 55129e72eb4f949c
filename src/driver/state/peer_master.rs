//! The master beside this one: its process, and the link to it (a socketpair).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
use crate::sys::process::{descendants, wait};
use crate::wire::names::ack_path;
use crate::wire::peer::{LONGEST, parse, render};

/// How long after the end of the link the process itself may take to end: a process closes its
/// descriptors a moment before it is gone.
const END_WITHIN: Duration = Duration::from_secs(1);

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
    pid: i32,
    process: Option<OwnedFd>,
    /// The child that this master has started: the new master, or a wrapper that starts it in turn.
    forked: Option<ForkedMaster>,
    /// The other master runs: the old one always, a new one since its hello.
    is_up: bool,
    /// When the link has ended.
    link_ended_at: Option<Time>,
    /// Empty for a new master.
    old_paths: OldPaths,
}

/// The paths that an old master has moved its own to.
#[derive(Default)]
pub(in crate::driver) struct OldPaths {
    pub(in crate::driver) pid_file: Option<PathBuf>,
    pub(in crate::driver) control: Option<PathBuf>,
}

impl PeerMaster {
    /// The new master, which has just been forked.
    ///
    /// # Errors
    /// pidfd_open(2) or epoll refuses.
    pub(in crate::driver) fn new_master(
        link: Link,
        forked: ForkedMaster,
    ) -> io::Result<PeerMaster> {
        let process = pidfile::open_process(forked.pid)?;
        let pid = forked.pid;
        PeerMaster::watched(link, pid, Some(process), Some(forked), OldPaths::default())
    }

    /// The old master: the link to it, with a message that was received already; its pid and a
    /// pidfd (None: it is gone already).
    ///
    /// # Errors
    /// epoll refuses.
    pub(in crate::driver) fn old_master(
        (link, early): (Link, Option<Message>),
        (pid, process): (i32, Option<OwnedFd>),
        old_paths: OldPaths,
    ) -> io::Result<PeerMaster> {
        let mut peer = PeerMaster::watched(link, pid, process, None, old_paths)?;
        peer.early = early;
        Ok(peer)
    }

    fn watched(
        link: Link,
        pid: i32,
        process: Option<OwnedFd>,
        forked: Option<ForkedMaster>,
        old_paths: OldPaths,
    ) -> io::Result<PeerMaster> {
        let epoll = NestedEpoll::new()?;
        epoll.add(link.as_fd(), LINK, Interest::READ)?;
        if let Some(process) = &process {
            epoll.add(process.as_fd(), PROCESS, Interest::READ)?;
        }
        Ok(PeerMaster {
            link,
            early: None,
            epoll,
            pid,
            process,
            is_up: forked.is_none(),
            forked,
            link_ended_at: None,
            old_paths,
        })
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
        let early = self.early.as_ref().map(|_| Time(0));
        early.or(self.link_ended_at.map(|at| at + END_WITHIN))
    }

    /// Sends a message, at once or when the link has room for it.
    pub(in crate::driver) fn send(&mut self, message: &PeerMessage) {
        self.link.send(render(message));
        self.watch_for_room();
    }

    fn watch_for_room(&mut self) {
        if self.link_ended_at.is_none() {
            let interest = Interest {
                read: true,
                write: self.link.wants_write(),
            };
            let _ = self.epoll.modify(self.link.as_fd(), LINK, interest);
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
            && let Ok(process) = pidfile::open_process(pid)
        {
            let _ = pidfile::pidfd_signal(&process, Signal::Kill);
        }
    }

    pub(in crate::driver) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // That it has ended is found by `read`.
            let _ = pidfile::pidfd_signal(process, signal);
        }
    }

    /// What it has sent, and its end.
    pub(in crate::driver) fn read(&mut self, now: Time) -> Vec<PeerEvent> {
        // Asked before its messages are read: so none of them is missed.
        let ended = self.has_ended();
        self.link.flush();
        let mut all = Vec::new();
        while let Some(datagram) = self.early.take().or_else(|| self.link.receive(LONGEST)) {
            let Some(message) = parse(&datagram.text) else {
                continue;
            };
            if let PeerMessage::Hello(pid) = message {
                self.follow(pid);
            }
            all.push(PeerEvent::Said(message));
        }
        self.watch_for_room();
        if ended {
            all.retain(PeerEvent::outlives_its_master);
            all.push(PeerEvent::Exited(self.exit_message()));
            return all;
        }
        if self.link.has_ended() && self.link_ended_at.is_none() {
            let _ = self.epoll.remove(self.link.as_fd());
            self.link_ended_at = Some(now);
        }
        if self.link_ended_at.is_some_and(|at| now >= at + END_WITHIN) {
            all.push(match (&self.forked, &self.process) {
                (None, Some(_)) => PeerEvent::Detached,
                (Some(_), _) | (None, None) => PeerEvent::Exited(self.exit_message()),
            });
        }
        all
    }

    fn has_ended(&self) -> bool {
        match &self.process {
            // It was gone before a pidfd could be opened.
            None => self.forked.is_none(),
            Some(process) => Poller::new()
                .wait(&[(process.as_fd(), Interest::READ)], Some(Time(0)))
                .is_ok_and(|ready| ready.iter().any(|ready| ready.any())),
        }
    }

    /// The new master is up. It may be a child of the process that was forked.
    fn follow(&mut self, pid: i32) {
        self.is_up = true;
        if pid == self.pid {
            return;
        }
        if let Ok(process) = pidfile::open_process(pid) {
            if let Some(before) = self.process.take() {
                let _ = self.epoll.remove(before.as_fd());
            }
            let _ = self.epoll.add(process.as_fd(), PROCESS, Interest::READ);
            self.process = Some(process);
            self.pid = pid;
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_message_received_before_is_read_first() {
        let (mut old, new) = Link::pair().expect("a pair");
        let (first, second) = (
            PeerMessage::Back("first".to_owned()),
            PeerMessage::Back("second".to_owned()),
        );
        old.send(render(&second));
        let early = Message {
            text: render(&first),
            fds: Vec::new(),
        };
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let process = pidfile::open_process(pid).expect("a pidfd");
        let mut peer = PeerMaster::old_master(
            (Link::new(new), Some(early)),
            (pid, Some(process)),
            OldPaths::default(),
        )
        .expect("watched");
        assert_eq!(peer.deadline(), Some(Time(0)));
        let messages = [PeerEvent::Said(first), PeerEvent::Said(second)];
        assert_eq!(peer.read(Time(1)), messages);
        assert_eq!(peer.deadline(), None);
    }
}
