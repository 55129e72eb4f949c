//! A process by its pidfd: to signal it and to wait for its end, though its number may be used
//! again.
//!
//! Where the kernel gives no pidfd (before Linux 5.3, or a seccomp profile that does not know the
//! call), a client makes do with the number and the time when the process started:
//! [`HeldProcess`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal as RawSignal, kill_process, pidfd_open, pidfd_send_signal,
    test_kill_process,
};

use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock;
use crate::sys::process::proc_info;
use crate::sys::signal;

/// How often to look where no descriptor tells the end of a process.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A pidfd of the process. It refers to this process only, also after its number is used again.
///
/// # Errors
/// ESRCH: there is no process with this number. Where the call is missing, the error names it.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    pidfd_open(number(pid)?, PidfdFlags::empty()).map_err(|errno| match errno {
        // The kernel knows no EPERM here: a profile forbids the call.
        Errno::NOSYS | Errno::PERM => io::Error::new(
            io::ErrorKind::Unsupported,
            "pidfd_open(2) is missing or forbidden (Linux 5.10 or newer is needed, and a \
             container's profile that permits the call)",
        ),
        errno => errno.into(),
    })
}

/// No pid is 0 or less; the library would panic.
fn number(pid: i32) -> io::Result<Pid> {
    let positive = Some(pid).filter(|pid| *pid > 0);
    let found = positive.and_then(Pid::from_raw);
    found.ok_or(io::ErrorKind::InvalidInput.into())
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

/// A process, held so that its number is not taken for another process later.
#[derive(Debug)]
pub struct HeldProcess {
    pid: Pid,
    /// None: the kernel gives none.
    pidfd: Option<OwnedFd>,
    /// When it started, in the kernel's ticks; None without /proc.
    started: Option<u64>,
}

impl HeldProcess {
    /// The process with this number.
    ///
    /// # Errors
    /// ESRCH: there is none.
    pub fn open(pid: i32) -> io::Result<HeldProcess> {
        let raw = number(pid)?;
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => {
                exists(raw)?;
                None
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok(HeldProcess {
            pid: raw,
            pidfd,
            started: proc_info::started(pid),
        })
    }

    /// A process that has sent a pidfd of itself; without one, that which has the number now.
    pub(in crate::sys) fn announced(pid: i32, pidfd: Option<OwnedFd>) -> io::Result<HeldProcess> {
        Ok(HeldProcess {
            pid: number(pid)?,
            pidfd,
            started: proc_info::started(pid),
        })
    }

    /// The pidfd, if the kernel gave one.
    pub(in crate::sys) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// The number.
    pub(in crate::sys) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// ESRCH: it has exited; EPERM: this process may not signal it.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let Some(pidfd) = &self.pidfd {
            let sent = pidfd_signal(pidfd, signal);
            let is_unknown = |error: &io::Error| error.raw_os_error() == Some(libc::ENOSYS);
            if !sent.as_ref().is_err_and(is_unknown) {
                return sent;
            }
        }
        if self.has_exited()? {
            return Err(Errno::SRCH.into());
        }
        let signal =
            RawSignal::from_named_raw(signal::number(signal)).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(self.pid, signal)?)
    }

    /// Waits until the process has exited; false if `deadline` (`None`: never) came first. A zombie
    /// has exited.
    ///
    /// # Errors
    /// What poll(2) or kill(2) said.
    pub fn wait(&self, deadline: Option<Time>) -> io::Result<bool> {
        if let Some(pidfd) = &self.pidfd {
            return pidfd_wait(pidfd, deadline);
        }
        loop {
            if self.has_exited()? {
                return Ok(true);
            }
            let now = clock::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let left = deadline.map_or(LOOK_AGAIN, |deadline| deadline.since(now));
            clock::pause(left.min(LOOK_AGAIN));
        }
    }

    /// Whether the number means the process no more.
    fn has_exited(&self) -> io::Result<bool> {
        if let Some(pidfd) = &self.pidfd {
            return pidfd_wait(pidfd, Some(Time(0)));
        }
        let pid = self.pid.as_raw_nonzero().get();
        Ok(!exists(self.pid).map(|()| true).or_else(gone)?
            || !proc_info::is_live(pid)
            || proc_info::started(pid) != self.started)
    }
}

fn exists(pid: Pid) -> io::Result<()> {
    match test_kill_process(pid) {
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// That there is no such process is an answer.
fn gone(error: io::Error) -> io::Result<bool> {
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// As if the kernel gave no pidfd.
    fn by_number(pid: i32) -> HeldProcess {
        let held = HeldProcess::open(pid).expect("it lives");
        HeldProcess {
            pidfd: None,
            ..held
        }
    }

    #[test]
    fn without_a_pidfd_a_process_is_signalled_and_its_end_is_seen() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep");
        let pid = i32::try_from(child.id()).expect("a pid");
        let held = by_number(pid);
        let soon = Some(clock::now() + Duration::from_millis(1));
        assert!(!held.wait(soon).expect("looked"));
        // The same number, started at another time: another process, which is not to be hit.
        let other = HeldProcess {
            started: Some(1),
            ..by_number(pid)
        };
        assert!(other.wait(None).expect("looked"));
        let refused = other.signal(Signal::Kill).expect_err("another process");
        assert_eq!(refused.raw_os_error(), Some(libc::ESRCH));
        assert!(!held.wait(soon).expect("looked"));
        held.signal(Signal::Kill).expect("sent");
        // A zombie has exited.
        assert!(held.wait(None).expect("looked"));
        child.wait().expect("ours");
        assert!(held.wait(None).expect("looked"));
        assert!(HeldProcess::open(-1).is_err() && HeldProcess::open(0).is_err());
    }
}
