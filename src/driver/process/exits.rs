//! How leaders end: found by their pidfds, reaped only after what they sent was read.
//!
//! A pidfd is readable once its process has ended, so one epoll_wait(2) finds every worker that
//! died, however many live. Where the kernel gave no pidfd (before Linux 5.3, a seccomp profile, no
//! descriptor left), such workers alone are asked by waitid(2), one by one, at each SIGCHLD.
//!
//! `waitid(P_ALL)` could not do it: the first child that has ended hides all others until it is
//! reaped, and a leader must not be reaped before its last messages were read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::token::{Source, Token};
use super::{Processes, WorkerProcess};
use crate::model::event::Event;
use crate::model::exit::{ExitStatus, OomReading};
use crate::model::ids::WorkerId;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, NestedEpoll, Ready};
use crate::sys::machine::{cgroup, clock};
use crate::sys::process::pidfd::open_process;
use crate::sys::process::wait;
use crate::sys::process::wait::WaitStatus;
use crate::sys::signal;

/// The least time between two looks for ended orphans.
const ORPHANS_EVERY: Duration = Duration::from_millis(100);

/// When ended orphans are looked for.
///
/// Each look makes the kernel go through all children. So there is one in [`ORPHANS_EVERY`] at
/// most, however many leaders end meanwhile.
#[derive(Default)]
pub(super) struct Orphans {
    looked: Option<Time>,
    /// A child has ended since.
    is_due: bool,
}

impl Orphans {
    /// A child has ended: whether to look now. If not, [`deadline`](Self::deadline) says when.
    fn may_look(&mut self, now: Time) -> bool {
        let may = self.looked.is_none_or(|at| now >= at + ORPHANS_EVERY);
        if may {
            self.looked = Some(now);
        }
        self.is_due = !may;
        may
    }

    /// When to look; None: no child has ended since the last look.
    pub(super) fn deadline(&self) -> Option<Time> {
        let looked = self.looked.filter(|_| self.is_due)?;
        Some(looked + ORPHANS_EVERY)
    }
}

/// The pidfds of all leaders that have not been reaped, as one descriptor.
pub(super) struct Exits {
    epoll: NestedEpoll,
    found: Vec<(u64, Ready)>,
    /// Those that have no pidfd and are not reaped.
    unwatched: BTreeSet<WorkerId>,
    /// Descriptors are short: leaders stay unwatched.
    paused: bool,
}

impl Exits {
    /// Nothing watched yet; `parent` becomes readable when a watched leader ends.
    pub(super) fn new(parent: &NestedEpoll) -> io::Result<Self> {
        let epoll = NestedEpoll::new()?;
        let token = Token::of_all(Source::Exits).pack();
        parent.add(epoll.fd(), token, Interest::READ)?;
        Ok(Exits {
            epoll,
            found: Vec::new(),
            unwatched: BTreeSet::new(),
            paused: false,
        })
    }

    /// Watches the leader of this process, which has not been reaped. Without a pidfd it stays
    /// unwatched.
    pub(super) fn watch(&mut self, process: &mut WorkerProcess) {
        if process.leaderless {
            return;
        }
        if !self.paused {
            // Not reaped, so the number is its own.
            process.exit = open_process(process.group.leader()).ok().filter(|pidfd| {
                let added = self.epoll.add(pidfd.as_fd(), process.id.0, Interest::READ);
                added.is_ok()
            });
        }
        if process.exit.is_none() {
            self.unwatched.insert(process.id);
        }
    }

    /// Closes the pidfd: its end is found at a SIGCHLD.
    pub(super) fn unwatch(&mut self, process: &mut WorkerProcess) {
        if let Some(pidfd) = process.exit.take() {
            let _ = self.epoll.remove(pidfd.as_fd());
            self.unwatched.insert(process.id);
        }
    }

    /// Its leader is reaped, or not known any more: it is not looked at again.
    pub(super) fn forget(&mut self, process: &mut WorkerProcess) {
        self.unwatch(process);
        self.unwatched.remove(&process.id);
    }

    /// Watches none any more, so that their pidfds are free for something else; false if none was
    /// watched. At the next SIGCHLD their ends are found all the same.
    pub(super) fn give_way<'a>(
        &mut self,
        processes: impl Iterator<Item = &'a mut WorkerProcess>,
    ) -> bool {
        self.paused = true;
        let mut any = false;
        for process in processes {
            any |= process.exit.is_some();
            self.unwatch(process);
        }
        any
    }

    /// Some descriptors have been closed: leaders of new workers are watched again.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// The watched leaders that have ended: at most as many as one epoll_wait(2) takes. The others
    /// keep the epoll readable for the next turn.
    fn ended(&mut self) -> Vec<WorkerId> {
        if self.epoll.ready(&mut self.found).is_err() {
            return Vec::new();
        }
        self.found.iter().map(|(id, _)| WorkerId(*id)).collect()
    }
}

impl Processes {
    /// The workers whose leader has ended and is not reaped yet, in the order of their ids.
    ///
    /// `sigchld`: a child has changed its state, so leaders without a pidfd are looked at too.
    pub(in crate::driver) fn ended_leaders(&mut self, sigchld: bool) -> Vec<WorkerId> {
        let mut ended = self.exits.ended();
        if sigchld {
            let unwatched = self.exits.unwatched.iter();
            let unwatched = unwatched.filter_map(|id| self.by_id.get(id));
            // An error means that it was reaped elsewhere.
            let ended_unwatched = unwatched.filter(|process| {
                matches!(wait::peek(process.group.leader()), Ok(Some(_)) | Err(_))
            });
            ended.extend(ended_unwatched.map(|process| process.id));
        }
        ended.sort_unstable();
        ended
    }

    /// What the worker has done since that was last told; its leader has ended and is not reaped.
    pub(in crate::driver) fn last_work(&mut self, id: WorkerId, now: Time) -> Option<Event> {
        self.by_id.get_mut(&id)?.last_work(now)
    }

    /// Of which of these leaders, which have ended, the count of OOM kills is read before they are
    /// reaped: of each that has died of a KILL; if there is none, of the first. That one reading
    /// passes over what has risen for a process that is no worker. It is none of many that end
    /// together with one that was killed: what has risen then may be that one.
    pub(in crate::driver) fn oom_readings(
        &self,
        ended: &[WorkerId],
    ) -> BTreeMap<WorkerId, OomReading> {
        let killed = ended.iter().filter(|id| self.has_died_of_kill(**id));
        let mut readings: BTreeMap<_, _> =
            killed.map(|id| (*id, OomReading::AfterKill(*id))).collect();
        if let (true, Some(first)) = (readings.is_empty(), ended.first()) {
            readings.insert(*first, OomReading::AfterExit);
        }
        readings
    }

    fn has_died_of_kill(&self, id: WorkerId) -> bool {
        let peeked = self.by_id.get(&id).map(|it| wait::peek(it.group.leader()));
        let Some(Ok(Some(WaitStatus::Signaled { signal, .. }))) = peeked else {
            return false;
        };
        signal == signal::number(Signal::Kill)
    }

    /// The count of OOM kills of the leader's cgroup, which the kernel knows until it is reaped.
    pub(in crate::driver) fn oom_kills(&self, id: WorkerId, reading: OomReading) -> Option<Event> {
        let leader = self.by_id.get(&id)?.group.leader();
        let count = cgroup::oom_kills(Path::new("/"), &leader.to_string())?;
        Some(Event::OomKills(reading, count))
    }

    /// Reaps the leader: how it ended, and whether its group has other members. A worker without
    /// other members is forgotten.
    pub(in crate::driver) fn reap_leader(&mut self, id: WorkerId) -> Option<Event> {
        let process = self.by_id.get_mut(&id)?;
        // Before the reap, which needs a descriptor of its own. And where waitid(2) does not report
        // the end yet, because a debugger holds the dead process, a readable pidfd would make a
        // busy loop: the leader is then found at the SIGCHLD that follows.
        self.exits.unwatch(process);
        let ended = match process.group.reap() {
            Ok(Some(ended)) => ended.into(),
            Ok(None) => return None,
            // Our child was reaped elsewhere: how it ended is lost, that it ended is not.
            Err(_) => ExitStatus::Signaled(None, false),
        };
        let rest = !process.group.is_empty();
        process.leaderless = true;
        self.exits.forget(process);
        if rest {
            self.leaderless.insert(id);
        } else {
            self.remove(id);
        }
        Some(Event::Exited {
            worker: id,
            ended,
            rest,
        })
    }

    /// Forgets the leaderless groups that have become empty.
    pub(in crate::driver) fn forget_empty_groups(&mut self) -> Vec<Event> {
        let is_empty = |id: &WorkerId| {
            let process = self.by_id.get(id);
            process.is_some_and(|process| process.group.is_empty())
        };
        let leaderless = self.leaderless.iter().copied();
        let gone: Vec<WorkerId> = leaderless.filter(is_empty).collect();
        let forgotten = gone.into_iter().flat_map(|id| self.forget_group(id));
        forgotten.collect()
    }

    /// Whether this leaderless group has become empty; it is forgotten if so.
    pub(in crate::driver) fn look_at_group(&mut self, id: WorkerId) -> Vec<Event> {
        let is_empty = |process: &WorkerProcess| process.leaderless && process.group.is_empty();
        if self.by_id.get(&id).is_some_and(is_empty) {
            return self.forget_group(id);
        }
        Vec::new()
    }

    /// Forgets a group that is empty; what it has done since that was last told comes first.
    fn forget_group(&mut self, id: WorkerId) -> Vec<Event> {
        let work = self.last_work(id, clock::now());
        self.remove(id);
        work.into_iter().chain([Event::Emptied(id)]).collect()
    }

    /// Reaps orphans of workers that have become our children, if it is time to look for them;
    /// their pids.
    pub(in crate::driver) fn reap_orphans(&mut self, now: Time) -> Vec<i32> {
        if self.orphans.may_look(now) {
            self.reap_orphans_now()
        } else {
            Vec::new()
        }
    }

    /// The same at once. A leader that ends meanwhile stays for the next turn: its last messages
    /// have to be read first.
    pub(super) fn reap_orphans_now(&self) -> Vec<i32> {
        let is_known = |pid| self.is_known_child(pid);
        std::iter::from_fn(|| wait::reap_orphan(&is_known)).collect()
    }

    /// Whether this child was started by the master itself, and is still watched.
    pub(in crate::driver) fn is_known_child(&self, pid: i32) -> bool {
        let not_orphans = [self.guard.pid(), self.reaped_elsewhere];
        not_orphans.contains(&Some(pid)) || self.by_pid.contains_key(&pid)
    }

    /// The worker whose notify socket has this address.
    pub(in crate::driver) fn by_notify_address(&self, address: &str) -> Option<WorkerId> {
        let mut all = self.by_id.values();
        all.find(|process| process.notify.address() == address)
            .map(|process| process.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_orphans_are_looked_for_at_a_pace_and_none_is_left() {
        let at = |millis| Time(0) + Duration::from_millis(millis);
        let mut orphans = Orphans::default();
        assert!(orphans.may_look(at(1000)));
        assert_eq!(orphans.deadline(), None);
        assert!(!orphans.may_look(at(1001)));
        assert!(!orphans.may_look(at(1099)));
        assert_eq!(orphans.deadline(), Some(at(1100)));
        assert!(orphans.may_look(at(1100)));
        assert_eq!(orphans.deadline(), None);
    }
}
