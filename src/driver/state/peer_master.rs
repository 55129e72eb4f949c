//! The master beside this one: its process, and the line to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::Log;
use crate::model::event::Ended;
use crate::model::fork::{PeerEvent, PeerMessage};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::control;
use crate::sys::files::pidfile;
use crate::sys::io::poll::{Interest, NestedEpoll, Poller};
use crate::sys::io::seqpacket::Link;
use crate::sys::process::fork_master::ForkedMaster;
use crate::sys::process::{descendants, wait};
use crate::wire::names::ack_path;
use crate::wire::peer::{LONGEST, parse, render};

/// How long after the line has ended the process's own end may take: it closes its descriptors a moment before it is gone.
const END_WITHIN: Duration = Duration::from_secs(1);

const LINE: u64 = 0;
const PROCESS: u64 = 1;

/// The other master.
pub(in crate::driver) struct PeerMaster {
    link: Link,
    /// Both descriptors, as one.
    nest: NestedEpoll,
    pid: i32,
    process: Option<OwnedFd>,
    /// What this master has started: the other one, or what has started it in turn.
    forked: Option<ForkedMaster>,
    stands: bool,
    ended_at: Option<Time>,
    /// The names that an old one goes by.
    its_names: (Option<PathBuf>, Option<PathBuf>),
}

impl PeerMaster {
    /// The new one, which has just been begotten.
    pub(super) fn new_one(link: Link, forked: ForkedMaster) -> io::Result<PeerMaster> {
        let process = pidfile::open_process(forked.pid)?;
        let pid = forked.pid;
        PeerMaster::watched(link, pid, Some(process), Some(forked), (None, None))
    }

    /// The old one, by its pid and a handle (None: it is gone already), and the names that it goes by: pid file and control socket.
    pub(super) fn old_one(
        link: Link,
        (pid, process): (i32, Option<OwnedFd>),
        its_names: (Option<PathBuf>, Option<PathBuf>),
    ) -> io::Result<PeerMaster> {
        PeerMaster::watched(link, pid, process, None, its_names)
    }

    fn watched(
        link: Link,
        pid: i32,
        process: Option<OwnedFd>,
        forked: Option<ForkedMaster>,
        its_names: (Option<PathBuf>, Option<PathBuf>),
    ) -> io::Result<PeerMaster> {
        let nest = NestedEpoll::new()?;
        nest.add(link.as_fd(), LINE, Interest::READ)?;
        if let Some(process) = &process {
            nest.add(process.as_fd(), PROCESS, Interest::READ)?;
        }
        Ok(PeerMaster {
            link,
            nest,
            pid,
            process,
            stands: forked.is_none(),
            forked,
            ended_at: None,
            its_names,
        })
    }

    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it says something, or ends.
    pub(in crate::driver) fn fd(&self) -> BorrowedFd<'_> {
        self.nest.fd()
    }

    /// When to look again though nothing is readable.
    pub(in crate::driver) fn deadline(&self) -> Option<Time> {
        self.ended_at.map(|at| at + END_WITHIN)
    }

    /// Says something, at once or when it has room for it.
    pub(super) fn tell(&mut self, told: &PeerMessage) {
        self.link.tell(render(told));
        self.watch_room();
    }

    fn watch_room(&mut self) {
        if self.ended_at.is_none() {
            let interest = Interest {
                read: true,
                write: self.link.wants_write(),
            };
            let _ = self.nest.modify(self.link.as_fd(), LINE, interest);
        }
    }

    /// Kills it, and what has started it.
    ///
    /// Before it stands, whatever it has started is on its way to become it, and has the listeners.
    pub(super) fn kill(&self) {
        let starter = self.forked.as_ref().map(|forked| forked.pid);
        if let Some(starter) = starter.filter(|_| !self.stands) {
            // So nobody comes into being, or becomes an orphan, while it is looked.
            self.signal(Signal::Stop);
            // Our own child, and not reaped.
            descendants::kill_descendants(starter, &|| true);
        }
        self.signal(Signal::Kill);
        // Not reaped yet, so the number is its own.
        if let Some(pid) = starter.filter(|pid| *pid != self.pid)
            && matches!(wait::peek(pid), Ok(None))
            && let Ok(process) = pidfile::open_process(pid)
        {
            let _ = pidfile::pidfd_signal(&process, Signal::Kill);
        }
    }

    /// Signals it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // One that has ended is seen to have.
            let _ = pidfile::pidfd_signal(process, signal);
        }
    }

    /// What it has said, and its end.
    pub(super) fn hear(&mut self, now: Time) -> Vec<PeerEvent> {
        // Before what it said is read: then nothing of that is missed.
        let ended = self.has_ended();
        self.link.flush();
        let mut all = Vec::new();
        while let Some(message) = self.link.hear(LONGEST) {
            let Some(told) = parse(&message.text) else {
                continue;
            };
            if let PeerMessage::Hello(pid) = told {
                self.follow(pid);
            }
            all.push(PeerEvent::Said(told));
        }
        self.watch_room();
        if ended {
            all.retain(PeerEvent::outlives_its_master);
            all.push(PeerEvent::Gone(self.how()));
            return all;
        }
        if self.link.has_ended() && self.ended_at.is_none() {
            let _ = self.nest.remove(self.link.as_fd());
            self.ended_at = Some(now);
        }
        if self.ended_at.is_some_and(|at| now >= at + END_WITHIN) {
            all.push(match (&self.forked, &self.process) {
                (None, Some(_)) => PeerEvent::Dropped,
                (Some(_), _) | (None, None) => PeerEvent::Gone(self.how()),
            });
        }
        all
    }

    fn has_ended(&self) -> bool {
        match &self.process {
            // It was gone before anybody could look.
            None => self.forked.is_none(),
            Some(process) => Poller::new()
                .wait(&[(process.as_fd(), Interest::READ)], Some(Time(0)))
                .is_ok_and(|ready| ready.iter().any(|ready| ready.any())),
        }
    }

    /// The new one stands. It may be a child of what was begotten.
    fn follow(&mut self, pid: i32) {
        self.stands = true;
        if pid == self.pid {
            return;
        }
        if let Ok(process) = pidfile::open_process(pid) {
            if let Some(before) = self.process.take() {
                let _ = self.nest.remove(before.as_fd());
            }
            let _ = self.nest.add(process.as_fd(), PROCESS, Interest::READ);
            self.process = Some(process);
            self.pid = pid;
        }
    }

    /// How it has ended, in words.
    fn how(&mut self) -> String {
        let Some(forked) = &mut self.forked else {
            return "is gone".to_owned();
        };
        // Also one that started it is nobody's to wait for any more.
        let ended = wait::reap(forked.pid).ok().flatten();
        if let Some(why) = forked.failure() {
            return format!("could not be started: {why}");
        }
        let before = if self.stands { "" } else { " before it stood" };
        match ended {
            Some(ended) if forked.pid == self.pid => format!("{}{before}", Ended::from(ended)),
            _ => format!("has ended{before}"),
        }
    }

    /// Removes the socket at which one that is gone has heard einhorn's acks; `control`: where the control socket belongs.
    pub(super) fn remove_its_acks(&self, control: &Path, log: &Log) {
        let path = ack_path(control, self.pid.unsigned_abs());
        if let Err(error) = control::remove_dead(&path) {
            log.warn(format_args!("{error}"));
        }
    }

    /// Removes what an old one that is gone has left.
    pub(super) fn remove_its_names(&self, log: &Log) {
        let (pid_file, control) = &self.its_names;
        if let Some(Err(error)) = control.as_deref().map(control::remove_dead) {
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
