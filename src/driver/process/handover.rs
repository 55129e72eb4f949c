//! The workers' processes from one image of the master to the next: an exec keeps all children.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::ack_socket::AckSocket;
use super::exits::Exits;
use super::guard_keeper::GuardKeeper;
use super::{Processes, WorkerProcess};
use crate::model::ids::WorkerId;
use crate::model::time::Time;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::io::fd;
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

    /// From the image before. All descriptors are copied: the image before needs the originals
    /// until this one has succeeded.
    pub(in crate::driver) fn taken_over(from: HandedOver) -> io::Result<Self> {
        let epoll = NestedEpoll::new()?;
        let exits = Exits::new(&epoll)?;
        let mut by_id = BTreeMap::new();
        for process in from.processes {
            let mut process = WorkerProcess::taken_over(process)?;
            for (fd, token) in process.watched() {
                epoll.add(fd, token.pack(), Interest::READ)?;
            }
            // Opened anew: a leader that died during the exec is not reaped, so its number is its
            // own.
            exits.watch(&mut process);
            by_id.insert(process.id, process);
        }
        let by_pid: HashMap<i32, WorkerId> = by_id
            .values()
            .map(|process| (process.group.leader(), process.id))
            .collect();
        let acks = from.acks.as_ref();
        let ack_socket = acks.map(|acks| AckSocket::taken_over(acks, &epoll));
        let keep = from
            .keep
            .iter()
            .map(|(fd, number)| fd::duplicate_raw(*fd).map(|fd| (fd, *number)));
        Ok(Processes {
            by_id,
            by_pid,
            exits,
            null: fd::null()?,
            keep: keep.collect::<io::Result<_>>()?,
            ack_socket: ack_socket.transpose()?,
            reaped_elsewhere: None,
            guard: GuardKeeper::taken_over(from.guard.as_ref())?,
            own_pid: i32::try_from(std::process::id()).unwrap_or(0),
            own_uid: users::own_uid(),
            epoll,
        })
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
            notify: (
                self.notify.fd().as_raw_fd(),
                self.notify.address().to_owned(),
            ),
            outcome: self.spawn_outcome.as_ref().map(OwnedFd::as_raw_fd),
            about_to_execute: self.about_to_execute,
            ready: self.ready_pipe.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    fn taken_over(process: handover::Process) -> io::Result<Self> {
        let (SignalName(signal), millis) = process.terms;
        let (notify, address) = process.notify;
        let ready_pipe = process.ready.map(fd::duplicate_raw).transpose()?;
        Ok(WorkerProcess {
            id: WorkerId(process.id),
            group: Group::taken_over(process.leader, process.hold)?,
            stop_terms: StopTerms {
                signal,
                timeout: Duration::from_millis(millis),
            },
            beat: HeartbeatFile::taken_over(&process.beat)?,
            last_beat: process.last_beat.map(Time::from),
            status: process.status,
            leaderless: process.leaderless,
            exit: None,
            notify: NotifySocket::taken_over(notify, address)?,
            spawn_outcome: process.outcome.map(fd::duplicate_raw).transpose()?,
            about_to_execute: process.about_to_execute,
            ready_pipe: ready_pipe.map(Into::into),
            last_usage: Cell::default(),
        })
    }
}
