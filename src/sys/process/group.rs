//! A worker's process group, signalled without ever hitting another process group.
//!
//! A pid stays allocated while the leader is not reaped, so until then `kill` is safe. After the
//! reap the number belongs to the group only as long as the group has a member. A pidfd of the
//! leader, opened before the reap, names exactly that group for ever (pidfd_send_signal(2) with
//! PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9).
#![expect(unsafe_code, reason = "no crate has pidfd_send_signal with flags yet")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal as NixSignal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::proc_info;
use super::session;
use super::wait::{self, WaitStatus};
use crate::model::signal::Signal;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::signal;
use crate::wire::handover::Hold;

/// PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// A worker's process group, by its leader: a child of ours that leads a session or a group of its
/// own (or is about to).
#[derive(Debug)]
pub struct Group {
    leader: i32,
    /// The session that the group is in: the leader's own, unless the group was made within our
    /// session.
    session: i32,
    state: LeaderState,
}

#[derive(Debug)]
enum LeaderState {
    /// Not reaped: the number is its own.
    Unreaped,
    /// Ended, and deliberately not reaped, as no pidfd could be opened (no descriptors, no memory).
    /// While it is a zombie, the number is its own.
    KeptZombie,
    /// Reaped; the pidfd still names the group, if the kernel gave us one.
    Reaped(Option<OwnedFd>),
    /// Reaped, and the group was empty: from now on the number may belong to another process.
    GroupGone,
}

impl Group {
    /// The group that the unreaped child `pid` leads.
    ///
    /// # Errors
    /// EINVAL for a number that no child can have: kill(2) would take 0, 1 or less for other
    /// processes, or for all.
    pub fn of_child(pid: i32) -> io::Result<Group> {
        if pid <= 1 {
            return Err(Errno::EINVAL.into());
        }
        Ok(Group {
            leader: pid,
            session: pid,
            state: LeaderState::Unreaped,
        })
    }

    /// Like [`Group::of_child`], for a child that leads a group within our own session.
    ///
    /// # Errors
    /// The same.
    pub fn of_child_in_our_session(pid: i32) -> io::Result<Group> {
        let mut group = Group::of_child(pid)?;
        group.session = session::leader();
        Ok(group)
    }

    /// The leader's pid, which is also the number of the group.
    pub fn leader(&self) -> i32 {
        self.leader
    }

    /// Reaps the leader if it has ended. A pidfd, opened before, still names the group if members
    /// are left. If no pidfd can be opened for lack of descriptors or memory, the leader stays a
    /// zombie until [`Group::reap_kept_leader`] or the drop of this value.
    ///
    /// # Errors
    /// ECHILD: the leader has been reaped already.
    pub fn reap(&mut self) -> io::Result<Option<WaitStatus>> {
        match self.state {
            LeaderState::Reaped(_) | LeaderState::GroupGone | LeaderState::KeptZombie => {
                return Err(Errno::ECHILD.into());
            }
            LeaderState::Unreaped if wait::peek(self.leader)?.is_none() => return Ok(None),
            LeaderState::Unreaped => {}
        }
        // Open the pidfd before the reap: afterwards the number may belong to another process.
        let pidfd = match rustix::process::Pid::from_raw(self.leader)
            .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        {
            Some(Ok(pidfd)) => Some(pidfd),
            Some(Err(
                rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM,
            )) => {
                self.state = LeaderState::KeptZombie;
                return wait::peek(self.leader);
            }
            Some(Err(_)) | None => None,
        };
        let ended = wait::reap(self.leader)?;
        self.state = LeaderState::Reaped(pidfd);
        if matches!(self.send_after_reap(0), Ok(Delivery::NoProcess)) {
            self.state = LeaderState::GroupGone;
        }
        Ok(ended)
    }

    /// Reaps a leader that was kept as a zombie; false if there was none. Until then it blocks
    /// [`wait::reap_orphan`], which stops at a child that has an owner.
    pub fn reap_kept_leader(&mut self) -> bool {
        let kept = matches!(self.state, LeaderState::KeptZombie);
        if kept {
            let _ = wait::reap(self.leader);
            self.state = LeaderState::GroupGone;
        }
        kept
    }

    /// Sends `signal` to the leader; false if the leader has ended and [`Group::reap`] has seen
    /// that. A leader that has exited and is not reaped yet takes the signal without effect.
    ///
    /// # Errors
    /// EPERM: the leader has changed its user, and we are not root.
    pub fn signal_leader(&self, signal: Signal) -> io::Result<bool> {
        match self.state {
            LeaderState::Reaped(_) | LeaderState::GroupGone | LeaderState::KeptZombie => Ok(false),
            LeaderState::Unreaped => {
                delivery_of(kill(Pid::from_raw(self.leader), nix_signal(signal)))
                    .map(Delivery::is_delivered)
            }
        }
    }

    /// Sends `signal` to every process of the group; false if the group is empty.
    ///
    /// # Errors
    /// EPERM: we may signal none of them.
    pub fn signal_group(&self, signal: Signal) -> io::Result<bool> {
        let delivery = match self.state {
            LeaderState::Reaped(_) | LeaderState::GroupGone => {
                self.send_after_reap(signal::number(signal))?
            }
            LeaderState::KeptZombie => {
                delivery_of(killpg(Pid::from_raw(self.leader), nix_signal(signal)))?
            }
            LeaderState::Unreaped => {
                match delivery_of(killpg(Pid::from_raw(self.leader), nix_signal(signal)))? {
                    // Just forked, the child has not called setsid(2) yet: there is no group of
                    // this number, only the leader.
                    Delivery::NoProcess => {
                        delivery_of(kill(Pid::from_raw(self.leader), nix_signal(signal)))?
                    }
                    delivered => delivered,
                }
            }
        };
        Ok(delivery.is_delivered())
    }

    /// Whether no live process is left in the group. Zombies do not count: pid 1 may reap late.
    pub fn is_empty(&self) -> bool {
        let has_no_process = match self.state {
            // By far the most frequent state; it needs no scan of /proc.
            LeaderState::GroupGone => return true,
            LeaderState::Reaped(_) => matches!(self.send_after_reap(0), Ok(Delivery::NoProcess)),
            // A running leader counts even before it has made its group.
            LeaderState::Unreaped if matches!(wait::peek(self.leader), Ok(None)) => return false,
            LeaderState::Unreaped | LeaderState::KeptZombie => false,
        };
        // Without /proc zombies cannot be told from live processes. Then call the group alive: to
        // wait too long is safer than to leave processes behind.
        has_no_process || has_live_member(self.leader, self.session) == Some(false)
    }

    fn send_after_reap(&self, number: libc::c_int) -> io::Result<Delivery> {
        let pidfd = match &self.state {
            LeaderState::GroupGone => return Ok(Delivery::NoProcess),
            LeaderState::Reaped(pidfd) => pidfd.as_ref(),
            LeaderState::Unreaped | LeaderState::KeptZombie => None,
        };
        send_by_pidfd(pidfd, self.leader, self.session, number)
    }

    /// How the group is held, for the hand-over to the next image of the master.
    pub fn hold(&self) -> Hold {
        match &self.state {
            LeaderState::Unreaped => Hold::Leader,
            LeaderState::KeptZombie => Hold::Kept,
            LeaderState::Reaped(pidfd) => Hold::Handle(pidfd.as_ref().map(AsRawFd::as_raw_fd)),
            LeaderState::GroupGone => Hold::Empty,
        }
    }

    /// The group that the previous image of the master held.
    ///
    /// # Errors
    /// As [`Group::of_child`]; or the descriptor of the pidfd is not open.
    pub fn taken_over(leader: i32, hold: Hold, left: &mut LeftOpen) -> io::Result<Group> {
        let mut group = Group::of_child(leader)?;
        group.state = match hold {
            Hold::Leader => LeaderState::Unreaped,
            Hold::Kept => LeaderState::KeptZombie,
            Hold::Handle(pidfd) => LeaderState::Reaped(pidfd.map(|fd| left.take(fd)).transpose()?),
            Hold::Empty => LeaderState::GroupGone,
        };
        Ok(group)
    }

    /// A pidfd of the leader, which names the group also after the reap; None if the kernel gives
    /// none.
    pub fn pidfd(&self) -> Option<OwnedFd> {
        match &self.state {
            LeaderState::Unreaped | LeaderState::KeptZombie => {
                rustix::process::Pid::from_raw(self.leader)
                    .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            }
            LeaderState::Reaped(pidfd) => pidfd.as_ref().and_then(|pidfd| pidfd.try_clone().ok()),
            LeaderState::GroupGone => None,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.reap_kept_leader();
    }
}

/// Sends a signal to the group that `leader` leads or led; `number` 0 sends nothing and only
/// checks.
fn send_by_pidfd(
    pidfd: Option<&OwnedFd>,
    leader: i32,
    session: i32,
    number: libc::c_int,
) -> io::Result<Delivery> {
    if let Some(pidfd) = pidfd {
        match delivery_of(pidfd_signal_group(pidfd, number)) {
            // A kernel before 6.9 does not know the flag.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {}
            sent => return sent,
        }
    }
    // Without the pidfd: send only if a live member proves that the number still means our session.
    // Between this look and the send the number could be reused; on an old kernel that race cannot
    // be closed. Where /proc does not tell, the kernel's word counts that there is such a group:
    // it keeps the number from others as long as the group has a member.
    if killpg(Pid::from_raw(leader), None) == Err(Errno::ESRCH)
        || has_live_member(leader, session) == Some(false)
    {
        return Ok(Delivery::NoProcess);
    }
    let signal = NixSignal::try_from(number).ok();
    delivery_of(killpg(Pid::from_raw(leader), signal))
}

/// Sends a signal to the group of a worker that is no child, by its pidfd if there is one. The
/// guard calls this and has nowhere to report a failure.
pub(in crate::sys) fn signal_group_by_pidfd(
    pidfd: Option<&OwnedFd>,
    leader: i32,
    number: libc::c_int,
) {
    let _ = send_by_pidfd(pidfd, leader, leader, number);
}

/// Whether no live process is left in the group of a worker that is no child.
pub(in crate::sys) fn is_group_gone(pidfd: Option<&OwnedFd>, leader: i32) -> bool {
    matches!(
        send_by_pidfd(pidfd, leader, leader, 0),
        Ok(Delivery::NoProcess)
    ) || has_live_member(leader, leader) == Some(false)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Delivered,
    NoProcess,
}

impl Delivery {
    fn is_delivered(self) -> bool {
        self == Delivery::Delivered
    }
}

fn delivery_of(sent: nix::Result<()>) -> io::Result<Delivery> {
    match sent {
        Ok(()) => Ok(Delivery::Delivered),
        Err(Errno::ESRCH) => Ok(Delivery::NoProcess),
        Err(errno) => Err(errno.into()),
    }
}

fn nix_signal(signal: Signal) -> Option<NixSignal> {
    NixSignal::try_from(signal::number(signal)).ok()
}

fn pidfd_signal_group(pidfd: &OwnedFd, number: libc::c_int) -> nix::Result<()> {
    // SAFETY: plain numbers and a null siginfo, which the call allows; the descriptor is open as
    // long as `pidfd` lives.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    Errno::result(done).map(drop)
}

/// The fields that we need are within this many bytes of a stat line; /proc gives them in one read.
const STAT_USED: usize = 512;

/// Whether /proc has a live process of this group and this session; `None` without a /proc of this
/// pid namespace.
fn has_live_member(group: i32, session: i32) -> Option<bool> {
    if !proc_info::is_ours() {
        return None;
    }
    let mut any = false;
    let mut line = [0; STAT_USED];
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // The process may have gone since the directory was read.
        let read =
            File::open(format!("/proc/{pid}/stat")).and_then(|mut stat| stat.read(&mut line));
        let Ok(length) = read else { continue };
        let stat = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
        any |= is_live_member(&stat, group, session);
    }
    Some(any)
}

fn is_live_member(stat: &str, group: i32, session: i32) -> bool {
    // The command's name may contain anything, also `)`. What follows the last `)` is numbers.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i32>().ok());
    // A zombie with several threads is a process whose main thread has ended: it is alive.
    let zombie = matches!(fields.first(), Some(&("Z" | "X" | "x"))) && number(17).unwrap_or(1) <= 1;
    !zombie && number(2) == Some(group) && number(3) == Some(session)
}

/// The process group of a process that has not been reaped.
pub fn group_of(pid: i32) -> Option<i32> {
    let valid = Some(pid).filter(|pid| *pid > 0);
    let group = valid.and_then(|pid| getpgid(Some(Pid::from_raw(pid))).ok());
    group.map(Pid::as_raw)
}

#[cfg(test)]
mod tests;
