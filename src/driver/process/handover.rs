//! The workers' processes, from one image of the master to the next: they stay children of the same process.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use super::acks::Acks;
use super::one::token;
use super::{Process, Processes};
use crate::model::ids::WorkerId;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::machine::users;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::guard::{Guard, StopTerms};
use crate::wire::handover;

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
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        HandedOver {
            processes: self.by_id.values().map(Process::handed_over).collect(),
            guard: self.guard.as_ref().map(|guard| handover::Guard {
                fd: guard.socket().as_raw_fd(),
                pid: guard.pid(),
            }),
            keep: self
                .keep
                .iter()
                .map(|(fd, as_number)| (number(fd), *as_number))
                .collect(),
            acks: self.acks.as_ref().map(Acks::handed_over),
        }
    }

    /// From the image before. Copies of all descriptors: until the next image has succeeded, the originals are the way back.
    pub(in crate::driver) fn taken_over(from: HandedOver) -> io::Result<Self> {
        let nest = NestedEpoll::new()?;
        let mut by_id = BTreeMap::new();
        for process in from.processes {
            let process = Process::taken_over(process)?;
            for (fd, what) in process.descriptors() {
                nest.add(fd, token(process.id, what), Interest::READ)?;
            }
            by_id.insert(process.id, process);
        }
        let by_pid: HashMap<i32, WorkerId> = by_id
            .values()
            .map(|process| (process.group.leader(), process.id))
            .collect();
        let acks = from.acks.as_ref();
        let acks = acks.map(|acks| Acks::taken_over(acks, &nest)).transpose()?;
        let keep = from
            .keep
            .iter()
            .map(|(fd, as_number)| fd::duplicate_raw(*fd).map(|fd| (fd, *as_number)));
        Ok(Processes {
            by_id,
            by_pid,
            nest,
            null: fd::null()?,
            keep: keep.collect::<io::Result<_>>()?,
            acks,
            spared: None,
            guard: from.guard.as_ref().map(Guard::taken_over).transpose()?,
            own_pid: i32::try_from(std::process::id()).unwrap_or(0),
            own_uid: users::own_uid(),
        })
    }
}

impl Process {
    fn handed_over(&self) -> handover::Process {
        let number = |fd: &OwnedFd| fd.as_raw_fd();
        handover::Process {
            id: self.id.0,
            leader: self.group.leader(),
            hold: self.group.hold(),
            leaderless: self.leaderless,
            terms: (
                self.terms.signal,
                u64::try_from(self.terms.timeout.as_millis()).unwrap_or(u64::MAX),
            ),
            beat: self.beat.handed_over(),
            last_beat: self.last_beat,
            status: self.status.clone(),
            notify: (
                self.notify.fd().as_raw_fd(),
                self.notify.address().to_owned(),
            ),
            outcome: self.outcome.as_ref().map(number),
            about_to_execute: self.about_to_execute,
            ready: self.ready.as_ref().map(AsRawFd::as_raw_fd),
        }
    }

    fn taken_over(process: handover::Process) -> io::Result<Self> {
        let (signal, millis) = process.terms;
        let (notify, address) = process.notify;
        Ok(Process {
            id: WorkerId(process.id),
            group: Group::taken_over(process.leader, process.hold)?,
            terms: StopTerms {
                signal,
                timeout: Duration::from_millis(millis),
            },
            beat: HeartbeatFile::taken_over(&process.beat)?,
            last_beat: process.last_beat,
            status: process.status,
            leaderless: process.leaderless,
            notify: NotifySocket::taken_over(notify, address)?,
            outcome: process.outcome.map(fd::duplicate_raw).transpose()?,
            about_to_execute: process.about_to_execute,
            ready: process
                .ready
                .map(fd::duplicate_raw)
                .transpose()?
                .map(Into::into),
        })
    }
}
