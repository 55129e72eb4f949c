//! The next program of the chain as a child, instead of in our place (`pf-listen --hold`).
//!
//! It gets what an exec would have left it: the same environment, directory, session, process group, terminal and descriptors, signals as they were
//! given. Only its pid is another one, and when we are killed it gets TERM.
#![expect(unsafe_code, reason = "fork, and _exit where exec has failed")]

use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};

use nix::libc;
use nix::sys::signal::Signal as NixSignal;
use nix::unistd::{ForkResult, Pid, fork, getpgid, getpgrp, getpid, getppid, getsid};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::wait::{self, Ended};
use crate::error::{Error, Result};
use crate::sys::io::fd;
use crate::sys::signal;
use crate::sys::signal::forward::Relay;

/// A child that is, or is about to become, the next program.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    failure: OwnedFd,
}

impl Child {
    /// Forks a child. There, with signals as `relay` was given them, `become_next` runs with `listeners` from fd `first` on, and returns only if it fails:
    /// with what is to be said (`tell`) and the exit code. To be called while this process has one thread.
    ///
    /// # Errors
    /// What pipe2(2) or fork(2) said: EMFILE, EAGAIN, ENOMEM.
    pub fn start(
        relay: &Relay,
        listeners: &[RawFd],
        first: RawFd,
        become_next: impl FnOnce() -> Error,
        tell: impl FnOnce(&Error),
    ) -> io::Result<Child> {
        let (read, write) = fd::pipe()?;
        let holder = getpid();
        // SAFETY: this process has one thread, so the child may do whatever it likes; it never returns from here.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Child {
                pid: child.as_raw(),
                failure: read,
            }),
            ForkResult::Child => {
                let error = match prepare(relay, holder, &write, listeners, first) {
                    Ok(report) => {
                        let error = become_next();
                        // Where the holder does not read, its own end is near.
                        let _ = nix::unistd::write(&report, &[error.exit.code()]);
                        error
                    }
                    Err(error) => {
                        let _ = nix::unistd::write(&write, &[error.exit.code()]);
                        error
                    }
                };
                tell(&error);
                // SAFETY: the end of a forked child; nothing of the holder's is to be run or flushed.
                unsafe { libc::_exit(error.exit.code().into()) }
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is in our process group, where the terminal finds it too.
    pub fn is_in_our_group(&self) -> bool {
        getpgid(Some(Pid::from_raw(self.pid))).is_ok_and(|group| group == getpgrp())
    }

    /// Reaps it if it has ended; with the exit code where it was never executed.
    pub fn ended(&mut self) -> Option<(Ended, Option<u8>)> {
        let ended = wait::reap(self.pid).ok()??;
        let mut code = [0];
        let failed = std::fs::File::from(self.failure.try_clone().ok()?).read(&mut code);
        Some((ended, matches!(failed, Ok(1)).then_some(code[0])))
    }

    /// The signal that has stopped it, if one has since the last call.
    pub fn stopped_by(&self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        waitid(WaitId::Pid(pid), options).ok()??.stopping_signal()
    }
}

/// The child, until it becomes the next program: the end of the pipe that tells of failures, out of the way.
fn prepare(
    relay: &Relay,
    holder: Pid,
    report: &OwnedFd,
    listeners: &[RawFd],
    first: RawFd,
) -> Result<OwnedFd> {
    let failed = |what: &str, why: &dyn std::fmt::Display| Error::system(what, why);
    let count = RawFd::try_from(listeners.len()).unwrap_or(RawFd::MAX);
    let above = first.saturating_add(count);
    let report = rustix::io::fcntl_dupfd_cloexec(report, above)
        .map_err(|errno| failed("cannot place the listeners", &errno))?;
    let mut sources = listeners.to_vec();
    fd::place(&mut sources, first)
        .map_err(|errno| failed("cannot place the listeners", &errno.desc()))?;
    nix::sys::prctl::set_pdeathsig(NixSignal::SIGTERM)
        .map_err(|errno| failed("cannot arm the death signal", &errno.desc()))?;
    if getppid() != holder {
        // It was killed before that: nobody holds anything any more.
        return Err(failed("cannot start", &"pf-listen was killed"));
    }
    relay.give_back();
    Ok(report)
}

/// The pid of whoever leads our session; 0: a process of another pid namespace.
pub fn session() -> i32 {
    getsid(None).map_or(0, Pid::as_raw)
}

/// Whether this process's parent is the holder that `PF_HOLD` names: in the environment of a process further down it says nothing.
pub fn is_held(holder: Option<&str>) -> bool {
    holder.and_then(|pid| pid.parse().ok()) == Some(getppid().as_raw())
}

/// Has this process told by TERM when its parent dies, if that is the holder that `PF_HOLD` names. The holder has seen to that before it executed
/// anything; a change of user in the chain has made it void.
pub fn end_with(holder: Option<&str>) {
    let parent = getppid();
    if is_held(holder) {
        let _ = nix::sys::prctl::set_pdeathsig(NixSignal::SIGTERM);
        if getppid() != parent {
            let _ = signal::send_to_self(crate::model::signal::Signal::Term);
        }
    }
}
