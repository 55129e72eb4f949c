//! The pid file: the lock is the truth, the number in it is for people.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::clock;
use crate::error::{Error, Exit, Result};
use crate::model::sig::Sig;
use crate::model::time::Time;

/// Who owns a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// There is no file.
    Absent,
    /// There is a file, and nobody holds its lock.
    Stale,
    /// This process holds the lock.
    Alive(i32),
    /// A process of another pid namespace holds the lock.
    Unreachable,
}

/// Asks the lock of `path` who holds it.
pub fn owner(path: &Path) -> Result<Owner> {
    let wrap = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::PermissionDenied {
            Exit::Permission
        } else {
            Exit::System
        };
        Error::new(exit, format!("cannot read {}", path.display()), error)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Absent),
        Err(error) => return Err(wrap(error)),
    };
    let mut lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).map_err(|errno| wrap(errno.into()))?;
    Ok(
        match (lock.l_type == nix::libc::F_UNLCK as i16, lock.l_pid) {
            (true, _) => Owner::Stale,
            (false, pid) if pid > 0 => Owner::Alive(pid),
            (false, _) => Owner::Unreachable,
        },
    )
}

/// A pidfd of the live owner of `path`, with its pid; `None` if nobody owns it.
pub fn open_owner(path: &Path) -> Result<Option<(i32, OwnedFd)>> {
    let Owner::Alive(pid) = owner(path)? else {
        return Ok(None);
    };
    let Some(raw) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let fd = match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(Error::system(format!("cannot open process {pid}"), errno)),
    };
    // Asked again: the number may have become another process's before the pidfd stood.
    Ok((owner(path)? == Owner::Alive(pid)).then_some((pid, fd)))
}

/// Sends `sig` to the process.
pub fn signal(process: &OwnedFd, sig: Sig) -> io::Result<()> {
    let number: nix::sys::signal::Signal = format!("SIG{sig}").parse()?;
    let signal = Signal::from_named_raw(number as i32).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_send_signal(process, signal)?)
}

/// Waits until the process has exited (a zombie has); whether it has by `deadline`.
pub fn wait_gone(process: &OwnedFd, deadline: Option<Time>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.since(clock::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
