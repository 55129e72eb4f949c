//! The processes behind the model's worker ids, with the descriptors that belong to each.
//!
//! - [`Processes`]: all workers' processes, started and forgotten here; their descriptors are in
//!   one nested epoll, which the turn polls as one descriptor.
//! - [`WorkerProcess`], in `worker_process`: one worker's process.
//! - `token`: the name of a descriptor in the nested epoll.
//! - `exits`: how leaders end, and when groups are empty.
//! - `room`: descriptors for one more worker, where all are in use.
//! - `read`: what workers send: the outcome of the spawn, notifications, the ready pipe.
//! - `ack_socket`: einhorn's socket, which all workers share.
//! - `guard_keeper`: the guard process, kept alive.
//! - `handover`: all of it from one image of the master to the next.
//!
//! The way of one death, in one turn: the worker's pidfd makes the nested epoll readable;
//! [`Processes::ended_leaders`] finds the worker, and its leader stays unreaped;
//! [`Processes::read_workers`] reads what all workers have sent; then, for this worker alone,
//! [`Processes::read_last_messages`] and only after it [`Processes::reap_leader`]. So a worker that
//! reported ready and then died is never taken for one that died before it was ready. When its
//! group has other members, [`Processes::forget_empty_groups`] reports the group's end in a later
//! turn.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::reason;
use crate::model::counters::Work;
use crate::model::ids::WorkerId;
use crate::model::policy::Readiness;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::listener::Listener;
use crate::sys::machine::users;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::spawn::{self, Plumbing};
use crate::wire::listen_env::FIRST_FD;

use super::pin::{Pin, own_env};

mod ack_socket;
mod exits;
mod guard_keeper;
mod handover;
mod read;
mod room;
mod token;
mod worker_process;

use ack_socket::AckSocket;
use exits::{Exits, Orphans};
use guard_keeper::GuardKeeper;
use worker_process::stop_terms;

pub(super) use guard_keeper::GuardCheck;
pub(super) use handover::HandedOver;
pub(super) use worker_process::WorkerProcess;

/// All workers' processes.
pub(super) struct Processes {
    by_id: BTreeMap<WorkerId, WorkerProcess>,
    by_pid: BTreeMap<i32, WorkerId>,
    /// Those whose leader is reaped, and whose group has other members.
    leaderless: BTreeSet<WorkerId>,
    orphans: Orphans,
    epoll: NestedEpoll,
    exits: Exits,
    null: File,
    keep: Vec<(OwnedFd, i32)>,
    guard: GuardKeeper,
    ack_socket: Option<AckSocket>,
    /// A child that is no worker, and is reaped by the part that started it.
    reaped_elsewhere: Option<i32>,
    own_pid: i32,
    own_uid: u32,
}

impl Processes {
    /// No workers yet. The guard is started before the first worker.
    pub(super) fn new(keep: Vec<(OwnedFd, i32)>) -> io::Result<Self> {
        let guard = GuardKeeper::start()?;
        let epoll = NestedEpoll::new()?;
        Ok(Processes {
            by_id: BTreeMap::new(),
            by_pid: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            orphans: Orphans::default(),
            exits: Exits::new(&epoll)?,
            epoll,
            null: fd::null()?,
            keep,
            guard,
            ack_socket: None,
            reaped_elsewhere: None,
            own_pid: i32::try_from(std::process::id()).unwrap_or(0),
            own_uid: users::own_uid(),
        })
    }

    /// Readable when a worker has sent something, or its leader has ended.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.fd()
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&WorkerProcess> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut WorkerProcess> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &WorkerProcess> {
        self.by_id.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut WorkerProcess> {
        self.by_id.values_mut()
    }

    /// Starts a worker from its pin; its pid, or why it cannot be started.
    pub(super) fn spawn(&mut self, pin: &Pin, id: WorkerId, slot: u32) -> Result<i32, NotStarted> {
        let failed = |what| move |error| NotStarted::new(what, error);
        let bound = match &pin.notify_dir {
            None => NotifySocket::bind(),
            Some(directory) => NotifySocket::bind_in(directory),
        };
        let notify = bound.map_err(failed("cannot make its notify socket"))?;
        let address = notify.address().to_owned();
        let spawned = self.spawn_with(pin, id, slot, notify);
        if spawned.is_err() {
            NotifySocket::remove(&address);
        }
        spawned
    }

    fn spawn_with(
        &mut self,
        pin: &Pin,
        id: WorkerId,
        slot: u32,
        notify: NotifySocket,
    ) -> Result<i32, NotStarted> {
        let failed = |what| move |error| NotStarted::new(what, error);
        let beat = HeartbeatFile::create().map_err(failed("cannot make its heartbeat page"))?;
        let ready_pipe = ready_pipe(pin).map_err(failed("cannot make its ready pipe"))?;
        let env = own_env(pin, slot, notify.address(), self.ack_socket_path());
        let listeners = pin.listeners.open().iter().zip(FIRST_FD..);
        let mut fds: Vec<(BorrowedFd<'_>, i32)> = listeners
            .map(|(listener, number)| (listener.as_fd(), number))
            .collect();
        fds.push((beat.fd(), pin.beat_fd));
        let write = ready_pipe.as_ref();
        fds.extend(write.map(|pipe| (pipe.write.as_fd(), pipe.number)));
        fds.extend(self.keep.iter().map(|(fd, number)| (fd.as_fd(), *number)));
        self.guard
            .name_listeners(pin.listeners.open().iter().map(Listener::inode));
        let announcement = stop_terms(pin).line();
        let guard = self.guard.socket();
        let plumbing = Plumbing {
            stdin: self.null.as_fd(),
            fds: &fds,
            guard: guard.map(|socket| (socket, announcement.as_str())),
            env: &env,
        };
        let spawned =
            spawn::spawn(&pin.launch, &plumbing, self.own_pid).map_err(failed("cannot fork"))?;
        drop(fds);
        let process = WorkerProcess {
            id,
            stop_terms: stop_terms(pin),
            group: Group::of_child(spawned.pid).map_err(failed("cannot start it"))?,
            beat,
            last_beat: None,
            status: None,
            is_told: false,
            leaderless: false,
            exit: None,
            notify,
            spawn_outcome: Some(spawned.outcome),
            about_to_execute: false,
            ready_pipe: ready_pipe.map(|pipe| pipe.read.into()),
            counted: Work::default(),
            usage: Cell::default(),
        };
        self.add(process)
    }

    /// Watches the descriptors of a new process; its pid.
    fn add(&mut self, mut process: WorkerProcess) -> Result<i32, NotStarted> {
        let (id, pid) = (process.id, process.group.leader());
        let watched = process
            .watched()
            .into_iter()
            .try_for_each(|(fd, token)| self.epoll.add(fd, token.pack(), Interest::READ));
        if let Err(error) = watched {
            // Unwatched, it would never be known to run. It is killed, and reaped as an orphan.
            let _ = process.group.signal_group(Signal::Kill);
            self.guard.forget(pid);
            return Err(NotStarted::new("cannot listen to it", error));
        }
        self.exits.watch(&mut process);
        self.by_pid.insert(pid, id);
        self.by_id.insert(id, process);
        Ok(pid)
    }

    /// Forgets a process, and closes its descriptors.
    pub(super) fn remove(&mut self, id: WorkerId) {
        let Some(mut process) = self.by_id.remove(&id) else {
            return;
        };
        self.by_pid.remove(&process.group.leader());
        self.leaderless.remove(&id);
        if process.group.reap_kept_leader() {
            // A leader that was not reaped until now hid the orphans behind it.
            self.reap_orphans_now();
        }
        self.guard.forget(process.group.leader());
        self.exits.forget(&mut process);
        for (fd, _) in process.watched() {
            let _ = self.epoll.remove(fd);
        }
        NotifySocket::remove(process.notify.address());
        drop(process);
        self.exits.resume();
        self.resume_acks();
    }

    /// This child is no worker: the part that started it reaps it. None: there is no such child
    /// now.
    pub(super) fn leave_unreaped(&mut self, pid: Option<i32>) {
        self.reaped_elsewhere = pid;
    }

    /// The descriptors that workers get as they are: where each is, and its number in workers.
    pub(super) fn kept(&self) -> Vec<(RawFd, RawFd)> {
        let each = self.keep.iter();
        each.map(|(fd, number)| (fd.as_raw_fd(), *number)).collect()
    }

    /// Through this socket a child that is no worker announces itself to the guard.
    pub(super) fn guard_socket(&self) -> Option<BorrowedFd<'_>> {
        self.guard.socket()
    }

    /// The group of this child, which was announced to the guard, is empty.
    pub(super) fn forget_in_guard(&self, pid: i32) {
        self.guard.forget(pid);
    }

    /// When to look for ended orphans again.
    pub(super) fn orphans_deadline(&self) -> Option<Time> {
        self.orphans.deadline()
    }

    /// When to try again to start the guard.
    pub(super) fn guard_deadline(&self) -> Option<Time> {
        self.guard.deadline()
    }

    /// Starts the guard again if it has died.
    pub(super) fn check_guard(&mut self, now: Time) -> GuardCheck {
        self.guard.check(now, self.by_id.values())
    }

    /// Ends the guard: no worker is left.
    pub(super) fn end_guard(&mut self) {
        self.guard.end();
    }
}

/// Why a worker was not started.
pub(super) struct NotStarted {
    pub(super) why: String,
    /// This process has as many descriptors open as it may.
    pub(super) is_at_limit: bool,
}

impl NotStarted {
    fn new(what: &str, error: io::Error) -> Self {
        NotStarted {
            is_at_limit: fd::is_at_limit(&error),
            why: format!("{what}: {}", reason(error)),
        }
    }
}

/// The pipe of `--ready fd=N`.
struct ReadyPipe {
    read: OwnedFd,
    write: OwnedFd,
    /// The number of the writing end in the worker.
    number: i32,
}

fn ready_pipe(pin: &Pin) -> io::Result<Option<ReadyPipe>> {
    let number = match pin.policy.ready {
        Readiness::Fd(number) => number,
        Readiness::Auto
        | Readiness::Notify
        | Readiness::Heartbeat
        | Readiness::Delay(_)
        | Readiness::Exec => return Ok(None),
    };
    let (read, write) = fd::pipe()?;
    Ok(Some(ReadyPipe {
        read,
        write,
        number,
    }))
}
