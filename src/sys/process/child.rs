//! Starts the next program of the chain as a child, instead of executing it in place of this
//! process (`pf-listen --hold`).
//!
//! The child gets what an exec would have left it: the same environment, directory, session,
//! process group, terminal and descriptors, and the signal dispositions that this process was
//! given. Two things differ: the child has a pid of its own, and it gets TERM when this process
//! (the holder) is killed.
#![expect(unsafe_code, reason = "fork, and _exit where exec has failed")]

use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::Signal as NixSignal;
use nix::unistd::{ForkResult, Pid, fork, getpgid, getpgrp, getpid, getppid};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::wait::{self, WaitStatus};
use crate::error::{Error, Result};
use crate::sys::io::fd;
use crate::sys::signal::forward::Relay;

/// A child that is, or is about to become, the next program.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    failure: OwnedFd,
}

impl Child {
    /// Forks the child. In the child, the signal state is what `relay` found at its start, and the
    /// `listeners` are placed from fd `first` on. Then `become_next` runs there, and returns only
    /// if it fails: `report` prints its error, and the child exits with the error's exit code. Call
    /// it while this process has one thread.
    ///
    /// # Errors
    /// What pipe2(2) or fork(2) returned: EMFILE, EAGAIN, ENOMEM.
    pub fn start(
        relay: &Relay,
        listeners: &[RawFd],
        first: RawFd,
        become_next: impl FnOnce() -> Error,
        report: impl FnOnce(&Error),
    ) -> io::Result<Child> {
        let (read, write) = fd::pipe()?;
        let holder = getpid();
        // SAFETY: this process has one thread, so no lock is held and the child may run any code;
        // the child never returns from here.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Child {
                pid: child.as_raw(),
                failure: read,
            }),
            ForkResult::Child => {
                let error = match prepare(relay, holder, &write, listeners, first) {
                    Ok(pipe) => {
                        let error = become_next();
                        // A failed write means that the holder has died; then this child ends too.
                        let _ = nix::unistd::write(&pipe, &[error.exit.code()]);
                        error
                    }
                    Err(error) => {
                        let _ = nix::unistd::write(&write, &[error.exit.code()]);
                        error
                    }
                };
                report(&error);
                // SAFETY: the end of a forked child; no destructor and no buffer of the holder may
                // run here.
                unsafe { libc::_exit(error.exit.code().into()) }
            }
        }
    }

    /// The child's pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the child is in our process group. Then the terminal sends its signals to both.
    pub fn is_in_our_group(&self) -> bool {
        getpgid(Some(Pid::from_raw(self.pid))).is_ok_and(|group| group == getpgrp())
    }

    /// Reaps the child if it has ended. The second value is the exit code of a child whose program
    /// was never executed.
    pub fn try_reap(&mut self) -> Option<(WaitStatus, Option<u8>)> {
        let status = wait::reap(self.pid).ok()??;
        let mut code = [0];
        let failed = std::fs::File::from(self.failure.try_clone().ok()?).read(&mut code);
        Some((status, matches!(failed, Ok(1)).then_some(code[0])))
    }

    /// The signal that has stopped the child, if it was stopped since the last call.
    pub fn stopped_by(&self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        waitid(WaitId::Pid(pid), options).ok()??.stopping_signal()
    }
}

/// Runs in the child before it becomes the next program. Returns the end of the pipe that reports
/// failures, moved above the numbers of the listeners.
fn prepare(
    relay: &Relay,
    holder: Pid,
    pipe: &OwnedFd,
    listeners: &[RawFd],
    first: RawFd,
) -> Result<OwnedFd> {
    let failed = |what: &str, why: &dyn std::fmt::Display| Error::system(what, why);
    let count = RawFd::try_from(listeners.len()).unwrap_or(RawFd::MAX);
    let above = first.saturating_add(count);
    let pipe = rustix::io::fcntl_dupfd_cloexec(pipe, above)
        .map_err(|errno| failed("cannot place the listeners", &errno))?;
    let mut sources = listeners.to_vec();
    fd::place(&mut sources, first)
        .map_err(|errno| failed("cannot place the listeners", &errno.desc()))?;
    nix::sys::prctl::set_pdeathsig(NixSignal::SIGTERM)
        .map_err(|errno| failed("cannot arm the death signal", &errno.desc()))?;
    if getppid() != holder {
        // The holder was killed before the death signal was armed: no process holds the listeners
        // now.
        return Err(failed("cannot start", &"pf-listen was killed"));
    }
    relay.restore();
    Ok(pipe)
}
