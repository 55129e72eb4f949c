//! A worker's process group, and how it is signalled without ever hitting another's.
//!
//! While the leader is not reaped its number belongs to it, so `kill` is safe. After the reap the number lives on only as long
//! as the group has a member; a pidfd of the leader, opened before the reap, still names exactly that group.
#![expect(unsafe_code, reason = "no crate has pidfd_send_signal with flags yet")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal as NixSignal, kill, killpg};
use nix::unistd::{Pid, getpgid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::child;
use super::wait::{self, Ended};
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::signal;
use crate::wire::handover::Hold;

/// Linux 6.9.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// A worker's process group, by its leader: a child of ours that leads a session or a group of its own (or is about to).
#[derive(Debug)]
pub struct Group {
    leader: i32,
    /// The session that it is in: its leader's own, unless it was made within another.
    session: i32,
    state: Leader,
}

#[derive(Debug)]
enum Leader {
    /// Not reaped: the number is its own.
    Present,
    /// Ended, and not reaped for want of a pidfd (no descriptors, no memory): as long as it lies there the number is its own.
    Kept,
    /// Reaped; the pidfd still names the group, where the kernel gave us one.
    Reaped(Option<OwnedFd>),
    /// Reaped, and nobody was left: from now on the number may be another's.
    Alone,
}

impl Group {
    /// The group that the unreaped child `pid` leads.
    ///
    /// # Errors
    /// EINVAL for a number that no child can have: `kill` would take it for "everybody".
    pub fn of_child(pid: i32) -> io::Result<Group> {
        if pid <= 1 {
            return Err(Errno::EINVAL.into());
        }
        Ok(Group {
            leader: pid,
            session: pid,
            state: Leader::Present,
        })
    }

    /// As [`Group::of_child`], of one that leads a group in the session that we are in ourselves.
    ///
    /// # Errors
    /// The same.
    pub fn of_child_in_our_session(pid: i32) -> io::Result<Group> {
        let mut group = Group::of_child(pid)?;
        group.session = child::session();
        Ok(group)
    }

    /// The leader's pid, which is the group's number.
    pub fn leader(&self) -> i32 {
        self.leader
    }

    /// Reaps the leader if it has ended, and keeps hold of the group by a pidfd if anything is left in it; or, without one, by
    /// the leader itself, which is then reaped when this value is dropped.
    ///
    /// # Errors
    /// ECHILD: it has been reaped already.
    pub fn reap(&mut self) -> io::Result<Option<Ended>> {
        match self.state {
            Leader::Reaped(_) | Leader::Alone | Leader::Kept => {
                return Err(Errno::ECHILD.into());
            }
            Leader::Present if wait::peek(self.leader)?.is_none() => return Ok(None),
            Leader::Present => {}
        }
        // Before the reap: after it the number may be another's.
        let handle = match rustix::process::Pid::from_raw(self.leader)
            .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        {
            Some(Ok(handle)) => Some(handle),
            Some(Err(
                rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM,
            )) => {
                self.state = Leader::Kept;
                return wait::peek(self.leader);
            }
            Some(Err(_)) | None => None,
        };
        let ended = wait::reap(self.leader)?;
        self.state = Leader::Reaped(handle);
        if matches!(self.send_after_reap(0), Ok(Reached::Nobody)) {
            self.state = Leader::Alone;
        }
        Ok(ended)
    }

    /// Reaps a leader that was kept; false if none was. It is in the way of whoever reaps strangers, until then.
    pub fn release(&mut self) -> bool {
        let kept = matches!(self.state, Leader::Kept);
        if kept {
            let _ = wait::reap(self.leader);
            self.state = Leader::Alone;
        }
        kept
    }

    /// Sends `signal` to the leader; false if it has been reaped. One that has exited and is not reaped takes it without effect.
    ///
    /// # Errors
    /// EPERM: it has changed its user, and we are not root.
    pub fn signal_leader(&self, signal: Signal) -> io::Result<bool> {
        match self.state {
            Leader::Reaped(_) | Leader::Alone | Leader::Kept => Ok(false),
            Leader::Present => {
                reached(kill(Pid::from_raw(self.leader), named(signal))).map(Reached::somebody)
            }
        }
    }

    /// Sends `signal` to every process of the group; false if there is none left.
    ///
    /// # Errors
    /// EPERM: none of them may be signalled by us.
    pub fn signal_group(&self, signal: Signal) -> io::Result<bool> {
        let reached = match self.state {
            Leader::Reaped(_) | Leader::Alone => self.send_after_reap(signal::number(signal))?,
            Leader::Kept => reached(killpg(Pid::from_raw(self.leader), named(signal)))?,
            Leader::Present => match reached(killpg(Pid::from_raw(self.leader), named(signal)))? {
                // Just forked, it has not made its session yet: there is no group of this number, only the leader.
                Reached::Nobody => reached(kill(Pid::from_raw(self.leader), named(signal)))?,
                somebody => somebody,
            },
        };
        Ok(reached.somebody())
    }

    /// Whether no live process is left in the group. Zombies do not count: pid 1 may reap late.
    pub fn is_empty(&self) -> bool {
        let nobody = match self.state {
            // By far the most: it is not worth a look at all processes.
            Leader::Alone => return true,
            Leader::Reaped(_) => matches!(self.send_after_reap(0), Ok(Reached::Nobody)),
            // A running leader counts even before it has made its group.
            Leader::Present if matches!(wait::peek(self.leader), Ok(None)) => return false,
            Leader::Present | Leader::Kept => false,
        };
        // Without /proc nobody can tell a zombie from the living: better to wait for it.
        nobody || has_live_member(self.leader, self.session) == Some(false)
    }

    fn send_after_reap(&self, number: libc::c_int) -> io::Result<Reached> {
        let handle = match &self.state {
            Leader::Alone => return Ok(Reached::Nobody),
            Leader::Reaped(handle) => handle.as_ref(),
            Leader::Present | Leader::Kept => None,
        };
        send_by_handle(handle, self.leader, self.session, number)
    }

    /// How the group is held, for the image that comes next.
    pub fn hold(&self) -> Hold {
        match &self.state {
            Leader::Present => Hold::Leader,
            Leader::Kept => Hold::Kept,
            Leader::Reaped(handle) => Hold::Handle(handle.as_ref().map(AsRawFd::as_raw_fd)),
            Leader::Alone => Hold::Nobody,
        }
    }

    /// A group that the image before this one held.
    ///
    /// # Errors
    /// As [`Group::of_child`]; a handle that is not open.
    pub fn taken_over(leader: i32, hold: Hold) -> io::Result<Group> {
        let mut group = Group::of_child(leader)?;
        group.state = match hold {
            Hold::Leader => Leader::Present,
            Hold::Kept => Leader::Kept,
            Hold::Handle(handle) => Leader::Reaped(handle.map(fd::duplicate_raw).transpose()?),
            Hold::Nobody => Leader::Alone,
        };
        Ok(group)
    }

    /// A pidfd of the leader, which names the group also when it has been reaped; None where the kernel gives none.
    pub fn handle(&self) -> Option<OwnedFd> {
        match &self.state {
            Leader::Present | Leader::Kept => rustix::process::Pid::from_raw(self.leader)
                .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
            Leader::Reaped(handle) => handle.as_ref().and_then(|handle| handle.try_clone().ok()),
            Leader::Alone => None,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.release();
    }
}

/// Sends a signal (0: none, only whether it could be) to the group that `leader` leads or led.
fn send_by_handle(
    handle: Option<&OwnedFd>,
    leader: i32,
    session: i32,
    number: libc::c_int,
) -> io::Result<Reached> {
    if let Some(handle) = handle {
        match reached(pidfd_signal_group(handle, number)) {
            // A kernel before 6.9 knows no such flag.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {}
            sent => return sent,
        }
    }
    // Without the pidfd: only if a live member proves that the number still means our session. The gap between looking and
    // sending is what an old kernel leaves.
    if killpg(Pid::from_raw(leader), None) == Err(Errno::ESRCH)
        || has_live_member(leader, session) != Some(true)
    {
        return Ok(Reached::Nobody);
    }
    let signal = NixSignal::try_from(number).ok();
    reached(killpg(Pid::from_raw(leader), signal))
}

/// Sends a signal to the group of a worker that is known by a pidfd alone. Nobody is there to be told of a failure.
pub(in crate::sys) fn signal_group_by_handle(handle: &OwnedFd, leader: i32, number: libc::c_int) {
    let _ = send_by_handle(Some(handle), leader, leader, number);
}

/// Whether no live process is left in the group of a worker that is known by a pidfd alone.
pub(in crate::sys) fn group_by_handle_is_gone(handle: &OwnedFd, leader: i32) -> bool {
    matches!(
        send_by_handle(Some(handle), leader, leader, 0),
        Ok(Reached::Nobody)
    ) || has_live_member(leader, leader) == Some(false)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Somebody,
    Nobody,
}

impl Reached {
    fn somebody(self) -> bool {
        self == Reached::Somebody
    }
}

fn reached(sent: nix::Result<()>) -> io::Result<Reached> {
    match sent {
        Ok(()) => Ok(Reached::Somebody),
        Err(Errno::ESRCH) => Ok(Reached::Nobody),
        Err(errno) => Err(errno.into()),
    }
}

fn named(signal: Signal) -> Option<NixSignal> {
    NixSignal::try_from(signal::number(signal)).ok()
}

fn pidfd_signal_group(handle: &OwnedFd, number: libc::c_int) -> nix::Result<()> {
    // SAFETY: plain numbers and a null siginfo, which the call allows; the descriptor is open as long as `handle` lives.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            handle.as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    Errno::result(done).map(drop)
}

/// What is needed of a process's stat line stands in this many bytes; /proc gives them in one read.
const STAT_USED: usize = 512;

/// Whether /proc has a live process of this group and this session; `None` without /proc.
fn has_live_member(group: i32, session: i32) -> Option<bool> {
    let mut any = false;
    let mut line = [0; STAT_USED];
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may have gone since the directory was read.
        let read =
            File::open(format!("/proc/{pid}/stat")).and_then(|mut stat| stat.read(&mut line));
        let Ok(length) = read else { continue };
        let stat = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
        any |= is_live_member(&stat, group, session);
    }
    Some(any)
}

fn is_live_member(stat: &str, group: i32, session: i32) -> bool {
    // The command's name may hold anything, also `)`: what follows the last one is numbers.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i32>().ok());
    // A zombie with several threads is a process whose first thread has ended: alive.
    let zombie = matches!(fields.first(), Some(&("Z" | "X" | "x"))) && number(17).unwrap_or(1) <= 1;
    !zombie && number(2) == Some(group) && number(3) == Some(session)
}

/// The process group of a process that has not been reaped.
pub fn of(pid: i32) -> Option<i32> {
    let known = Some(pid).filter(|pid| *pid > 0);
    let group = known.and_then(|pid| getpgid(Some(Pid::from_raw(pid))).ok());
    group.map(Pid::as_raw)
}

/// Whether the process has a handler for `signal`. One that has none would die of USR1 (U15). False if it has gone.
pub fn catches(pid: i32, signal: Signal) -> bool {
    in_mask(pid, "SigCgt:", signal)
}

/// Whether the process ignores `signal`.
pub fn ignores(pid: i32, signal: Signal) -> bool {
    in_mask(pid, "SigIgn:", signal)
}

fn in_mask(pid: i32, field: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (signal::number(signal) - 1) & 1 == 1
}

#[cfg(test)]
mod tests;
