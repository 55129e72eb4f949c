//! Detaching from the shell (`--daemonize`): a child in a session of its own becomes the service.
//! The process that was started (the caller) waits until the service is up, or reports why it is
//! not.
//!
//! There is one fork, not the usual two: so the daemon's parent is the caller that waits, and the
//! caller sees exactly how the daemon ended. The daemon stays the leader of its session, which is
//! harmless, as no terminal is ever opened without O_NOCTTY. Until the service is up, the daemon
//! has a parent-death signal.
#![expect(unsafe_code, reason = "fork")]

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal as NixSignal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::wait::{self, WaitStatus};
use crate::error::Exit;
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::io::log_sink::open_to_append;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::process::pidfd::open_process;
use crate::sys::signal;
use crate::sys::signal::HANDLED;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The process that was started; it waits.
    Caller(Caller),
    /// The child; it becomes the service.
    Daemon(Launcher),
}

/// How the start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The service is up.
    Ready,
    /// The service is not up and has reported why: its exit code and the reason.
    Failed(u8, String),
    /// The service ended without a report; how, if that is known.
    Died(Option<WaitStatus>),
    /// This signal came to the caller, the caller passed it on, and the service has ended.
    Interrupted(Signal),
}

/// Forks. Call it while this process has one thread, and before it takes a lock that a child does
/// not inherit.
///
/// The daemon is in a session of its own, with stdin, stdout and stderr at the null device; all
/// else is as it was. The daemon goes on only after [`Caller::release`]. If the caller dies before
/// the service is up, the daemon gets INT.
///
/// # Errors
/// What pipe2(2), fork(2) or signalfd(2) returned; in the daemon what setsid(2) or prctl(2)
/// returned, or that the caller is gone.
pub fn detach() -> io::Result<Side> {
    let (result, report) = fd::pipe()?;
    let (go, release) = fd::pipe()?;
    let null = fd::null()?;
    // The caller reads its signals from a descriptor. A handler in the caller would wake the
    // daemon's loop, because both processes have the same wake-up pipe.
    let mut set = SigSet::empty();
    for signal in HANDLED {
        set.add(NixSignal::try_from(signal::number(signal))?);
    }
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mask = signal::block_all();
    // SAFETY: this process has one thread, so no lock is held and the child may run any code.
    match unsafe { fork() } {
        Err(errno) => {
            signal::restore(mask);
            Err(errno.into())
        }
        Ok(ForkResult::Parent { child }) => {
            set.thread_set_mask()?;
            Ok(Side::Caller(Caller {
                result,
                release,
                signals,
                child,
                pidfd: open_process(child.as_raw())?,
            }))
        }
        Ok(ForkResult::Child) => {
            drop((result, release, signals));
            let launcher = Launcher(Rc::new(RefCell::new(Some(File::from(report)))));
            if let Err(error) = become_daemon(&null, go.as_fd()) {
                launcher.failed(Exit::System.code(), &format!("cannot detach: {error}"));
                return Err(error);
            }
            signal::restore(mask);
            Ok(Side::Daemon(launcher))
        }
    }
}

/// Makes the child a daemon, and waits for [`Caller::release`].
fn become_daemon(null: &File, go: BorrowedFd<'_>) -> io::Result<()> {
    setsid()?;
    set_pdeathsig(NixSignal::SIGINT)?;
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)?;
    Poller::new().wait(&[(go, Interest::READ)], None)?;
    match nix::unistd::read(go, &mut [0])? {
        0 => Err(io::Error::other("the process that started it is gone")),
        _ => Ok(()),
    }
}

/// The process that waits for the daemon.
#[derive(Debug)]
pub struct Caller {
    result: OwnedFd,
    release: OwnedFd,
    signals: SignalFd,
    child: Pid,
    pidfd: OwnedFd,
}

impl Caller {
    /// The daemon's pid.
    pub fn daemon(&self) -> u32 {
        u32::try_from(self.child.as_raw()).unwrap_or_default()
    }

    /// Lets the daemon go on.
    pub fn release(&self) {
        // If the daemon has died, `wait` finds that out.
        let _ = nix::unistd::write(&self.release, &[1]);
    }

    /// Waits until the daemon has reported how its start went, or has ended. Signals that would end
    /// the caller are passed on to the daemon; then this waits for the daemon's end. `ignored`:
    /// signals that this process was started with ignored; of those, the ones that the terminal
    /// sends are dropped.
    ///
    /// # Errors
    /// What poll(2) or read(2) returned.
    pub fn wait(self, ignored: impl Fn(Signal) -> bool) -> io::Result<Verdict> {
        let (mut poller, mut report, mut is_closed) = (Poller::new(), Vec::new(), false);
        let mut interrupted = None;
        loop {
            let interest = if is_closed {
                Interest::NONE
            } else {
                Interest::READ
            };
            let fds = [
                (self.pidfd.as_fd(), Interest::READ),
                (self.signals.as_fd(), Interest::READ),
                (self.result.as_fd(), interest),
            ];
            let ended = poller
                .wait(&fds[..if is_closed { 2 } else { 3 }], None)?
                .first()
                .is_some_and(|ready| ready.any());
            while let Some(info) = self.signals.read_signal()? {
                interrupted = self.forward(&info, &ignored).or(interrupted);
            }
            is_closed = is_closed || read_report(&self.result, &mut report)?;
            let verdict = parse_report(&report);
            match (interrupted, verdict, ended) {
                (Some(signal), _, true) => return Ok(Verdict::Interrupted(signal)),
                (None, Some(Verdict::Ready), _) => return Ok(Verdict::Ready),
                (None, Some(verdict), true) => return Ok(verdict),
                (None, None, true) => {
                    let end = wait::reap(self.child.as_raw());
                    return Ok(Verdict::Died(end.ok().flatten()));
                }
                (_, _, false) => {}
            }
        }
    }

    /// Passes the signal on to the daemon and returns it, if it is one that would end the caller.
    fn forward(
        &self,
        info: &nix::sys::signalfd::siginfo,
        ignored: impl Fn(Signal) -> bool,
    ) -> Option<Signal> {
        let signal = signal::from_number(i32::try_from(info.ssi_signo).ok()?)?;
        if info.ssi_code == libc::SI_KERNEL && ignored(signal) {
            return None;
        }
        let forwarded = match signal {
            Signal::Int => NixSignal::SIGINT,
            Signal::Quit => NixSignal::SIGQUIT,
            // HUP comes when the caller's terminal hangs up. The daemon would take HUP for a
            // reload.
            Signal::Term | Signal::Hup => NixSignal::SIGTERM,
            _ => return None,
        };
        // The daemon is our child and not reaped, so the number is still its own.
        let _ = kill(self.child, forwarded);
        Some(signal)
    }
}

/// Reads what the pipe has; true at the end of file.
fn read_report(result: &OwnedFd, report: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1024];
    loop {
        match nix::unistd::read(result, &mut chunk) {
            Ok(0) => return Ok(true),
            Ok(length) => report.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Parses the daemon's report, which is one line: `CODE REASON`. None while the line is incomplete.
fn parse_report(report: &[u8]) -> Option<Verdict> {
    let line = report.strip_suffix(b"\n")?;
    let (code, why) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    match code.parse().ok()? {
        0 => Some(Verdict::Ready),
        code => Some(Verdict::Failed(code, why.to_owned())),
    }
}

/// The daemon's report to the caller. It is sent once; the clones share the pipe, and the first
/// that reports closes it.
#[derive(Debug, Clone)]
pub struct Launcher(Rc<RefCell<Option<File>>>);

impl Launcher {
    /// Reports that the service is up. From now on it runs without the caller.
    pub fn ready(&self) {
        // Before the report: the caller exits as soon as it has read it, and that must not signal
        // us.
        let _ = set_pdeathsig(None);
        self.send("0 \n");
    }

    /// Reports that the service is not up, and ends with this exit code.
    pub fn failed(&self, code: u8, why: &str) {
        self.send(&format!("{code} {}\n", why.replace('\n', " ")));
    }

    fn send(&self, line: &str) {
        if let Some(mut pipe) = self.0.take() {
            // A failed write means that the caller is gone; there is no process left to report to.
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

/// Redirects stdout and stderr, which the workers inherit, to the end of this file.
///
/// # Errors
/// What open(2) or dup2(2) returned.
pub fn output_to(path: &Path) -> io::Result<()> {
    // Opened like the log, but as an open file description of its own: workers share its flags, so
    // O_NONBLOCK is cleared again.
    let file = open_to_append(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    Ok(())
}

/// Ends this process by the signal, as if there were no handler; returns only if that failed.
pub fn die_of(signal: Signal) {
    let _ = signal_hook::low_level::emulate_default_handler(signal::number(signal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_whole_line_that_begins_with_the_code() {
        assert_eq!(parse_report(b"0 \n"), Some(Verdict::Ready));
        let failed = Verdict::Failed(6, "taken: by 7".into());
        assert_eq!(parse_report(b"6 taken: by 7\n"), Some(failed));
        for half in [&b""[..], b"0", b"6 taken", b"\n", b"x y\n", b"999 y\n"] {
            assert_eq!(parse_report(half), None, "{half:?}");
        }
    }

    #[test]
    fn a_report_is_sent_once() {
        let (read, write) = fd::pipe().expect("a pipe");
        let launcher = Launcher(Rc::new(RefCell::new(Some(File::from(write)))));
        let copy = launcher.clone();
        launcher.failed(1, "one\ntwo");
        copy.failed(2, "never");
        let mut report = Vec::new();
        assert!(read_report(&read, &mut report).expect("read"), "and closed");
        assert_eq!(
            parse_report(&report),
            Some(Verdict::Failed(1, "one two".into()))
        );
    }
}
