//! The processes behind the model's worker ids, with the descriptors that belong to each.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::reason;
use crate::model::exit::ExitStatus;
use crate::model::event::{Event, WorkerMessage};
use crate::model::ids::WorkerId;
use crate::model::policy::Readiness;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::heartbeat::file::HeartbeatFile;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, NestedEpoll, Ready};
use crate::sys::machine::users;
use crate::sys::notify::NotifySocket;
use crate::sys::process::group::Group;
use crate::sys::process::guard::Guard;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Plumbing, SpawnOutcome};
use crate::sys::process::wait;
use crate::wire::notify::parse;

use super::pin::{Pin, own_env};

mod acks;
mod handover;
mod one;

use acks::Acks;
pub(super) use handover::HandedOver;
pub(super) use one::Process;
use one::{terms, token};

/// How many datagrams of one worker a turn takes: one that floods delays nobody else.
const DATAGRAMS_A_TURN: usize = 64;

/// All of them.
pub(super) struct Processes {
    by_id: BTreeMap<WorkerId, Process>,
    by_pid: HashMap<i32, WorkerId>,
    nest: NestedEpoll,
    null: File,
    keep: Vec<(OwnedFd, i32)>,
    guard: Option<Guard>,
    /// Where einhorn's acks are heard, if that is spoken.
    acks: Option<Acks>,
    /// A child that is no worker, and is somebody else's to reap.
    spared: Option<i32>,
    own_pid: i32,
    own_uid: u32,
}

impl Processes {
    /// Nobody yet. The guard is there before the first worker.
    pub(super) fn new(keep: Vec<(OwnedFd, i32)>) -> io::Result<Self> {
        let guard = Guard::start()?;
        Ok(Processes {
            by_id: BTreeMap::new(),
            by_pid: HashMap::new(),
            nest: NestedEpoll::new()?,
            null: fd::null()?,
            keep,
            guard: Some(guard),
            acks: None,
            spared: None,
            own_pid: i32::try_from(std::process::id()).unwrap_or(0),
            own_uid: users::own_uid(),
        })
    }

    /// Readable when any worker has something to say.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.nest.fd()
    }

    pub(super) fn get(&self, id: WorkerId) -> Option<&Process> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Process> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Process> {
        self.by_id.values()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.by_id.values_mut()
    }

    /// Starts a worker from its pin; its pid, or why there is none.
    pub(super) fn spawn(&mut self, pin: &Pin, id: WorkerId, slot: u32) -> Result<i32, String> {
        let notify = NotifySocket::bind()
            .map_err(|error| format!("cannot make its notify socket: {}", reason(error)))?;
        let beat = HeartbeatFile::create()
            .map_err(|error| format!("cannot make its heartbeat page: {}", reason(error)))?;
        let env = own_env(pin, slot, notify.address(), self.acks_path());
        let mut fds: Vec<(BorrowedFd<'_>, i32)> = Vec::with_capacity(pin.listeners.len() + 2);
        fds.extend(
            pin.listeners
                .iter()
                .zip(crate::wire::listen_env::FIRST_FD..)
                .map(|(l, at)| (l.as_fd(), at)),
        );
        fds.push((beat.fd(), pin.beat_fd));
        let pipe = match pin.policy.ready {
            Readiness::Fd(number) => Some((
                fd::pipe()
                    .map_err(|error| format!("cannot make its ready pipe: {}", reason(error)))?,
                number,
            )),
            Readiness::Auto
            | Readiness::Notify
            | Readiness::Heartbeat
            | Readiness::Delay(_)
            | Readiness::Exec => None,
        };
        fds.extend(
            pipe.as_ref()
                .map(|((_, write), number)| (write.as_fd(), *number)),
        );
        fds.extend(self.keep.iter().map(|(fd, number)| (fd.as_fd(), *number)));
        let announcement = terms(pin).line();
        let guard = self
            .guard
            .as_ref()
            .map(|guard| (guard.socket(), announcement.as_str()));
        let plumbing = Plumbing {
            stdin: self.null.as_fd(),
            fds: &fds,
            guard,
            env: &env,
        };
        let spawned = spawn::spawn(&pin.launch, &plumbing, self.own_pid)
            .map_err(|error| format!("cannot fork: {}", reason(error)))?;
        let pid = spawned.pid;
        drop(fds);
        let process = Process {
            id,
            terms: terms(pin),
            group: Group::of_child(pid).map_err(|error| error.to_string())?,
            beat,
            last_beat: None,
            status: None,
            leaderless: false,
            notify,
            outcome: Some(spawned.outcome),
            about_to_execute: false,
            ready: pipe.map(|((read, _), _)| read.into()),
        };
        // One that cannot be heard would never be known to run: it goes at once, and is reaped as a stranger.
        let heard = process
            .descriptors()
            .into_iter()
            .try_for_each(|(fd, what)| self.nest.add(fd, token(id, what), Interest::READ));
        if let Err(error) = heard {
            let _ = process.group.signal_group(Signal::Kill);
            if let Some(guard) = &self.guard {
                guard.forget(pid);
            }
            return Err(format!("cannot listen to it: {error}"));
        }
        self.by_pid.insert(pid, id);
        self.by_id.insert(id, process);
        Ok(pid)
    }

    /// Forgets a process, its descriptors with it.
    pub(super) fn remove(&mut self, id: WorkerId) -> Option<Process> {
        let mut process = self.by_id.remove(&id)?;
        self.by_pid.remove(&process.group.leader());
        if process.group.reap_kept_leader() {
            self.reap_strangers();
        }
        if let Some(guard) = &self.guard {
            guard.forget(process.group.leader());
        }
        for (fd, _) in process.descriptors() {
            let _ = self.nest.remove(fd);
        }
        self.listen_for_acks_again();
        Some(process)
    }

    /// Those whose leader has ended, not reaped yet.
    pub(super) fn exits(&self) -> Vec<WorkerId> {
        let ended = |process: &&Process| {
            !process.leaderless
                && matches!(wait::peek(process.group.leader()), Ok(Some(_)) | Err(_))
        };
        self.by_id
            .values()
            .filter(ended)
            .map(|process| process.id)
            .collect()
    }

    /// Reaps the leader: how it ended, and whether its group has other members. What has none is forgotten.
    pub(super) fn reap(&mut self, id: WorkerId) -> Option<Event> {
        let process = self.by_id.get_mut(&id)?;
        let ended = match process.group.reap() {
            Ok(Some(ended)) => ended.into(),
            Ok(None) => return None,
            // Somebody else reaped our child: how it ended is lost, that it did is not.
            Err(_) => ExitStatus::Signaled(None, false),
        };
        let rest = !process.group.is_empty();
        process.leaderless = true;
        if !rest {
            self.remove(id);
        }
        Some(Event::Exited {
            worker: id,
            ended,
            rest,
        })
    }

    /// The leaderless groups that are empty by now; forgotten.
    pub(super) fn emptied(&mut self) -> Vec<Event> {
        let empty = |process: &&Process| process.leaderless && process.group.is_empty();
        let gone: Vec<WorkerId> = self
            .by_id
            .values()
            .filter(empty)
            .map(|process| process.id)
            .collect();
        gone.into_iter().map(|id| self.forget_emptied(id)).collect()
    }

    /// Whether this group is empty by now; forgotten if so.
    pub(super) fn look_at_group(&mut self, id: WorkerId) -> Option<Event> {
        let process = self.by_id.get(&id)?;
        (process.leaderless && process.group.is_empty()).then(|| self.forget_emptied(id))
    }

    fn forget_emptied(&mut self, id: WorkerId) -> Event {
        self.remove(id);
        Event::Emptied(id)
    }

    /// Reaps orphans that have become ours. One of our own leaders that ends meanwhile stays for the next turn: what it said last has to be
    /// read first.
    pub(super) fn reap_strangers(&self) -> u64 {
        let mut reaped = 0;
        let others = [self.guard.as_ref().map(Guard::pid), self.spared];
        let known = |pid| others.contains(&Some(pid)) || self.by_pid.contains_key(&pid);
        while wait::reap_orphan(&known).is_some() {
            reaped += 1;
        }
        reaped
    }

    /// A child that is no worker: it is reaped by whoever started it.
    pub(super) fn spare(&mut self, pid: Option<i32>) {
        self.spared = pid;
    }

    /// Descriptors that workers get as they are: where each is, and the number that they have it as.
    pub(super) fn kept(&self) -> Vec<(RawFd, RawFd)> {
        let each = self.keep.iter();
        each.map(|(fd, number)| (fd.as_raw_fd(), *number)).collect()
    }

    /// What whoever is to be guarded announces itself through.
    pub(super) fn guard_socket(&self) -> Option<BorrowedFd<'_>> {
        self.guard.as_ref().map(Guard::socket)
    }

    /// Nothing is left of this group.
    pub(super) fn forget_in_guard(&self, pid: i32) {
        if let Some(guard) = &self.guard {
            guard.forget(pid);
        }
    }

    /// Starts the guard anew if it has died, and tells it of everybody. False if there is none now: the next look tries again.
    pub(super) fn keep_guarded(&mut self) -> io::Result<bool> {
        if let Some(guard) = &self.guard {
            match wait::peek(guard.pid()) {
                Ok(None) => return Ok(false),
                Ok(Some(_)) | Err(_) => drop(wait::reap(guard.pid())),
            }
        }
        self.guard = None;
        let guard = Guard::start()?;
        for process in self.by_id.values() {
            if let Some(pidfd) = process.group.pidfd() {
                guard.watch(process.group.leader(), pidfd.as_fd(), process.terms);
            }
        }
        self.guard = Some(guard);
        Ok(true)
    }

    /// Nobody is left to be guarded.
    pub(super) fn dismiss_guard(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.kill();
        }
    }

    /// Takes what workers have said, spawns' outcomes first.
    pub(super) fn hear(&mut self, now: Time) -> Vec<Event> {
        let mut found: Vec<(u64, Ready)> = Vec::new();
        if self.nest.ready(&mut found).is_err() {
            return Vec::new();
        }
        found.sort_by_key(|(token, _)| token % 4);
        let mut events = Vec::new();
        for (token, _) in found {
            let id = WorkerId(token / 4);
            match token % 4 {
                0 => self.hear_outcome(id, &mut events),
                1 => self.hear_notify(id, now, &mut events),
                2 => self.hear_ready(id, &mut events),
                _ => self.hear_acks(now, &mut events),
            }
        }
        events
    }

    /// Takes all that one worker has said: before its end is acted on.
    pub(super) fn hear_last_words(&mut self, id: WorkerId, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        self.hear_outcome(id, &mut events);
        self.hear_notify(id, now, &mut events);
        self.hear_ready(id, &mut events);
        self.hear_acks(now, &mut events);
        events
    }

    fn hear_outcome(&mut self, id: WorkerId, events: &mut Vec<Event>) {
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(fd) = &process.outcome else { return };
        let event = match spawn::read_outcome(fd.as_fd(), &mut process.about_to_execute) {
            SpawnOutcome::Pending => return,
            SpawnOutcome::Executed => Some(Event::Executed(id)),
            // How, its end tells, which follows.
            SpawnOutcome::Died => None,
            SpawnOutcome::Failed { step, errno } => Some(Event::ExecFailed(
                id,
                format!("{step}: {}", reason(io::Error::from_raw_os_error(errno))),
            )),
        };
        let _ = self.nest.remove(fd.as_fd());
        process.outcome = None;
        events.extend(event);
    }

    fn hear_notify(&mut self, id: WorkerId, now: Time, events: &mut Vec<Event>) {
        let own_uid = self.own_uid;
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        for _ in 0..DATAGRAMS_A_TURN {
            let datagram = match process.notify.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) | Err(_) => return,
            };
            // The address says who speaks; the kernel says on whose behalf: ours, the worker's (the same user here), or root's.
            if datagram.uid != own_uid && datagram.uid != 0 {
                continue;
            }
            for message in parse(&datagram.text) {
                events.extend(process.said(id, now, message));
            }
        }
    }

    fn hear_ready(&mut self, id: WorkerId, events: &mut Vec<Event>) {
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(pipe) = &mut process.ready else {
            return;
        };
        let mut chunk = [0; 512];
        // It is read to its end, so that a worker that goes on writing there gets no SIGPIPE and never blocks.
        let closed = match pipe.read(&mut chunk) {
            Ok(0) => true,
            Ok(length) => {
                if chunk[..length].contains(&b'\n') {
                    events.push(Event::Said(id, WorkerMessage::Newline));
                }
                false
            }
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        };
        if closed {
            let _ = self.nest.remove(pipe.as_fd());
            process.ready = None;
            events.push(Event::Said(id, WorkerMessage::Closed));
        }
    }
}
