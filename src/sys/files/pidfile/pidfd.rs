//! A process by its pidfd: to signal it and to wait for its end, though its number may be used
//! again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal as RawSignal, pidfd_open, pidfd_send_signal};

use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::signal;

/// A pidfd of the process. It refers to this process only, also after its number is used again.
///
/// # Errors
/// ESRCH: there is no process with this number.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(raw, PidfdFlags::empty())?)
}

/// As [`open_process`]; `None`: there is no such process.
///
/// # Errors
/// It is not known whether there is one: EMFILE, ENFILE, ENOMEM, ENOSYS.
pub fn open_if_alive(pid: i32) -> io::Result<Option<OwnedFd>> {
    match open_process(pid) {
        Ok(process) => Ok(Some(process)),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends a signal to the process.
///
/// # Errors
/// ESRCH: it has exited; EPERM: this process may not signal it.
pub fn pidfd_signal(handle: &OwnedFd, signal: Signal) -> io::Result<()> {
    let signal =
        RawSignal::from_named_raw(signal::number(signal)).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_send_signal(handle, signal)?)
}

/// Waits until the process has exited; false if `deadline` (`None`: never) came first.
///
/// # Errors
/// What poll(2) said.
pub fn pidfd_wait(handle: &OwnedFd, deadline: Option<Time>) -> io::Result<bool> {
    let mut poller = Poller::new();
    let ready = poller.wait(&[(handle.as_fd(), Interest::READ)], deadline)?;
    Ok(ready.iter().any(|ready| ready.any()))
}
