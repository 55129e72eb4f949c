//! Leaving the shell (`--daemonize`): a child in a session of its own becomes the service, and the process that was started waits until
//! that is up, or tells why not.
//!
//! One fork: the child's parent is whoever waits, so its end can be told exactly; being the leader of its session matters to nobody, as
//! no terminal is ever opened without O_NOCTTY. Until the service is up the two belong together: the child has a death signal.
#![expect(unsafe_code, reason = "fork")]

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal as NixSignal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::wait::{self, Ended};
use crate::error::Exit;
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::signal;
use crate::sys::signal::HANDLED;

/// Which of the two we are.
#[derive(Debug)]
pub enum Side {
    /// The process that was started; it waits.
    Caller(Caller),
    /// The new one; it becomes the service.
    Daemon(Launcher),
}

/// How the start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The service is up.
    Ready,
    /// It is not, as it said itself: its exit code and why.
    Failed(u8, String),
    /// It ended without a word; how, if that is known.
    Died(Option<Ended>),
    /// This signal came to the caller, was passed on, and the service has ended.
    Interrupted(Signal),
}

/// Forks. To be called while this process has one thread, and before it holds any lock that a child does not inherit.
///
/// The daemon is in a session of its own, stdin, stdout and stderr at the null device, everything else as it was. It goes on only after
/// [`Caller::release`]; if the caller dies before the service is up, it gets INT.
///
/// # Errors
/// What pipe2(2), fork(2) or signalfd(2) said; in the daemon what setsid(2) or prctl(2) said, or that the caller is gone.
pub fn detach() -> io::Result<Side> {
    let (result, told) = fd::pipe()?;
    let (go, release) = fd::pipe()?;
    let null = fd::null()?;
    // The caller reads its signals from a descriptor: handlers would wake the daemon, whose loop has the same pipe.
    let mut set = SigSet::empty();
    for signal in HANDLED {
        set.add(NixSignal::try_from(signal::number(signal))?);
    }
    let news = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mask = signal::block_all();
    // SAFETY: this process has one thread, so the child may do whatever it likes.
    match unsafe { fork() } {
        Err(errno) => {
            signal::restore(mask);
            Err(errno.into())
        }
        Ok(ForkResult::Parent { child }) => {
            set.thread_set_mask()?;
            let pid = rustix::process::Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::Other)?;
            Ok(Side::Caller(Caller {
                result,
                release,
                news,
                child,
                handle: pidfd_open(pid, PidfdFlags::empty())?,
            }))
        }
        Ok(ForkResult::Child) => {
            drop((result, release, news));
            let launcher = Launcher(Rc::new(RefCell::new(Some(File::from(told)))));
            if let Err(error) = settle(&null, go.as_fd()) {
                launcher.failed(Exit::System.code(), &format!("cannot detach: {error}"));
                return Err(error);
            }
            signal::restore(mask);
            Ok(Side::Daemon(launcher))
        }
    }
}

/// What makes the child a daemon.
fn settle(null: &File, go: BorrowedFd<'_>) -> io::Result<()> {
    setsid()?;
    set_pdeathsig(NixSignal::SIGINT)?;
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)?;
    Poller::new().wait(&[(go, Interest::READ)], None)?;
    match nix::unistd::read(go, &mut [0])? {
        0 => Err(io::Error::other("whoever started it is gone")),
        _ => Ok(()),
    }
}

/// The waiting side.
#[derive(Debug)]
pub struct Caller {
    result: OwnedFd,
    release: OwnedFd,
    news: SignalFd,
    child: Pid,
    handle: OwnedFd,
}

impl Caller {
    /// The daemon's pid.
    pub fn daemon(&self) -> u32 {
        u32::try_from(self.child.as_raw()).unwrap_or_default()
    }

    /// Lets the daemon go on.
    pub fn release(&self) {
        // One that is gone is found gone by waiting for it.
        let _ = nix::unistd::write(&self.release, &[1]);
    }

    /// Waits until the daemon has said how it went, or has ended. Signals that end a program are passed on to it; its end is then
    /// waited for. `ignored`: what the terminal cannot send, as we were started so.
    ///
    /// # Errors
    /// What poll(2) or read(2) said.
    pub fn wait(self, ignored: impl Fn(Signal) -> bool) -> io::Result<Verdict> {
        let (mut poller, mut said, mut silent) = (Poller::new(), Vec::new(), false);
        let mut interrupted = None;
        loop {
            let more = if silent {
                Interest::NONE
            } else {
                Interest::READ
            };
            let fds = [
                (self.handle.as_fd(), Interest::READ),
                (self.news.as_fd(), Interest::READ),
                (self.result.as_fd(), more),
            ];
            let ended = poller
                .wait(&fds[..if silent { 2 } else { 3 }], None)?
                .first()
                .is_some_and(|ready| ready.any());
            while let Some(news) = self.news.read_signal()? {
                interrupted = self.pass_on(&news, &ignored).or(interrupted);
            }
            silent = silent || hear(&self.result, &mut said)?;
            let verdict = parse(&said);
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

    /// The signal, if it is one that ends the caller.
    fn pass_on(
        &self,
        news: &nix::sys::signalfd::siginfo,
        ignored: impl Fn(Signal) -> bool,
    ) -> Option<Signal> {
        let signal = signal::from_number(i32::try_from(news.ssi_signo).ok()?)?;
        if news.ssi_code == libc::SI_KERNEL && ignored(signal) {
            return None;
        }
        let told = match signal {
            Signal::Int => NixSignal::SIGINT,
            Signal::Quit => NixSignal::SIGQUIT,
            // A hang-up of the caller's terminal; to the daemon it would mean a reload.
            Signal::Term | Signal::Hup => NixSignal::SIGTERM,
            _ => return None,
        };
        // It is our child, and not reaped: the number is its own.
        let _ = kill(self.child, told);
        Some(signal)
    }
}

/// Reads what is there; whether that was the last.
fn hear(result: &OwnedFd, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1024];
    loop {
        match nix::unistd::read(result, &mut chunk) {
            Ok(0) => return Ok(true),
            Ok(length) => said.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// `CODE REASON`, a line.
fn parse(said: &[u8]) -> Option<Verdict> {
    let line = said.strip_suffix(b"\n")?;
    let (code, why) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    match code.parse().ok()? {
        0 => Some(Verdict::Ready),
        code => Some(Verdict::Failed(code, why.to_owned())),
    }
}

/// The daemon's word to whoever waits; said once, by whichever of its copies comes first.
#[derive(Debug, Clone)]
pub struct Launcher(Rc<RefCell<Option<File>>>);

impl Launcher {
    /// The service is up, and on its own from now on.
    pub fn ready(&self) {
        // First of all: the caller's end, which follows, is no reason to go any more.
        let _ = set_pdeathsig(None);
        self.say("0 \n");
    }

    /// It is not up, and ends with this code.
    pub fn failed(&self, code: u8, why: &str) {
        self.say(&format!("{code} {}\n", why.replace('\n', " ")));
    }

    fn say(&self, line: &str) {
        if let Some(mut pipe) = self.0.take() {
            // Nobody is left to be told that nobody listens.
            let _ = pipe.write_all(line.as_bytes());
        }
    }
}

/// Stdout and stderr, and so the workers', to the end of this file.
///
/// # Errors
/// What open(2) or dup2(2) said.
pub fn output_to(path: &Path) -> io::Result<()> {
    // Opened like the log; and not the log's own descriptor, as workers share its flags.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    dup2_stdout(&file)?;
    dup2_stderr(&file)?;
    Ok(())
}

/// Ends this process by the signal, as if there had been no handler; returns only if that failed.
pub fn die_of(signal: Signal) {
    let _ = signal_hook::low_level::emulate_default_handler(signal::number(signal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_whole_line_that_begins_with_the_code() {
        assert_eq!(parse(b"0 \n"), Some(Verdict::Ready));
        let failed = Verdict::Failed(6, "taken: by 7".into());
        assert_eq!(parse(b"6 taken: by 7\n"), Some(failed));
        for half in [&b""[..], b"0", b"6 taken", b"\n", b"x y\n", b"999 y\n"] {
            assert_eq!(parse(half), None, "{half:?}");
        }
    }

    #[test]
    fn a_word_is_said_once() {
        let (read, write) = fd::pipe().expect("a pipe");
        let launcher = Launcher(Rc::new(RefCell::new(Some(File::from(write)))));
        let copy = launcher.clone();
        launcher.failed(1, "one\ntwo");
        copy.failed(2, "never");
        let mut said = Vec::new();
        assert!(hear(&read, &mut said).expect("read"), "and closed");
        assert_eq!(parse(&said), Some(Verdict::Failed(1, "one two".into())));
    }
}
