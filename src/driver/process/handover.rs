//! The workers' processes from one image of the master to the next: an exec keeps all children.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::ack_socket::AckSocket;
use super::exits::{Exits, Orphans};
use super::guard_keeper::GuardKeeper;
use super::{Processes, WorkerProcess};
use crate::model::counters::Work;
use crate::model::ids::WorkerId;
use crate::model::time::Time;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::io::fd;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::machine::users;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::guard::StopTerms;
use crate::wire::handover;
use crate::wire::handover::values::{Moment, SignalName};

/// What is handed over of all processes together.
pub(in crate::driver) struct HandedOver {
    pub(in crate::driver) processes: Vec<handover::Process>,
    pub(in crate::driver) guard: Option<handover::Guard>,
    pub(in crate::driver) keep: Vec<(i32, i32)>,
    pub(in crate::driver) acks: Option<handover::Acks>,
}

impl Processes {
    /// For the next image.
    pub(in crate::driver) fn handed_over(&self) -> HandedOver {
        HandedOver {
            processes: self
                .by_id
                .values()
                .map(WorkerProcess::handed_over)
                .collect(),
            guard: self.guard.guard().map(|guard| handover::Guard {
                fd: guard.socket().as_raw_fd(),
                pid: guard.pid(),
            }),
            keep: self.kept(),
            acks: self.ack_socket.as_ref().map(AckSocket::handed_over),
        }
    }

    /// From the image before. On an error nothing that was handed over is closed: the image before
    /// needs it again.
    pub(in crate::driver) fn taken_over(from: HandedOver, left: &mut LeftOpen) -> io::Result<Self> {
        let epoll = NestedEpoll::new()?;
        // What is not taken out again is leaked, also when this panics.
        let mut processes = ManuallyDrop::new(Processes {
            by_id: BTreeMap::new(),
            by_pid: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            orphans: Orphans::default(),
            exits: Exits::new(&epoll)?,
            null: fd::null()?,
            keep: Vec::new(),
            ack_socket: None,
            reaped_elsewhere: None,
            guard: GuardKeeper::without_guard(),
            own_pid: i32::try_from(std::process::id()).unwrap_or(0),
            own_uid: users::own_uid(),
            epoll,
        });
        processes.take_over(from, left)?;
        processes.watch_all()?;
        Ok(ManuallyDrop::into_inner(processes))
    }

    fn take_over(&mut self, from: HandedOver, left: &mut LeftOpen) -> io::Result<()> {
        for process in from.processes {
            let process = WorkerProcess::taken_over(process, left)?;
            self.by_pid.insert(process.group.leader(), process.id);
            if process.leaderless {
                self.leaderless.insert(process.id);
            }
            self.by_id.insert(process.id, process);
        }
        for (fd, number) in from.keep {
            self.keep.push((left.take(fd)?, number));
        }
        if let Some(guard) = &from.guard {
            self.guard = GuardKeeper::taken_over(guard, left)?;
        }
        let acks = from.acks.as_ref();
        let acks = acks.map(|acks| AckSocket::taken_over(acks, left));
        self.ack_socket = acks.transpose()?;
        Ok(())
    }

    fn watch_all(&mut self) -> io::Result<()> {
        for process in self.by_id.values_mut() {
            for (fd, token) in process.watched() {
                self.epoll.add(fd, token.pack(), Interest::READ)?;
            }
            // Opened anew: a leader that died during the exec is not reaped, so its number is its
            // own.
            self.exits.watch(process);
        }
        match &self.ack_socket {
            Some(acks) => acks.watch_all(&self.epoll),
            None => Ok(()),
        }
    }
}

impl WorkerProcess {
    fn handed_over(&self) -> handover::Process {
        let StopTerms { signal, timeout } = self.stop_terms;
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        handover::Process {
            id: self.id.0,
            leader: self.group.leader(),
            hold: self.group.hold(),
            leaderless: self.leaderless,
            terms: (SignalName(signal), timeout),
            beat: self.beat.handed_over(),
            last_beat: self.last_beat.map(Moment::from),
            status: self.status.clone(),
            counted: (
                self.counted.requests,
                self.counted.connections,
                self.counted.cpu,
            ),
            notify: (
                self.notify.fd().as_raw_fd(),
                self.notify.address().to_owned(),
            ),
            outcome: self.spawn_outcome.as_ref().map(OwnedFd::as_raw_fd),
            about_to_execute: self.about_to_execute,
            ready: self.ready_pipe.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    fn taken_over(process: handover::Process, left: &mut LeftOpen) -> io::Result<Self> {
        let (SignalName(signal), millis) = process.terms;
        let (notify, address) = process.notify;
        let mut take = |fd: Option<RawFd>| fd.map(|fd| left.take(fd)).transpose();
        let (ready_pipe, spawn_outcome) = (take(process.ready)?, take(process.outcome)?);
        Ok(WorkerProcess {
            id: WorkerId(process.id),
            group: Group::taken_over(process.leader, process.hold, left)?,
            stop_terms: StopTerms {
                signal,
                timeout: Duration::from_millis(millis),
            },
            beat: HeartbeatFile::taken_over(&process.beat, left)?,
            last_beat: process.last_beat.map(Time::from),
            status: process.status,
            is_told: false,
            leaderless: process.leaderless,
            exit: None,
            notify: NotifySocket::taken_over(notify, address, left)?,
            spawn_outcome,
            about_to_execute: process.about_to_execute,
            ready_pipe: ready_pipe.map(Into::into),
            counted: Work {
                requests: process.counted.0,
                connections: process.counted.1,
                cpu: process.counted.2,
            },
            usage: Cell::default(),
        })
    }
}
