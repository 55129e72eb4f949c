//! Signals of a process that stands in for another: every one that can be held back is, and told with its sender, to be passed on.
//!
//! They are blocked and read from a descriptor, not handled: so the dispositions stay as they were given, and a child that puts the mask back has
//! them as an exec would have left them, with no handler of ours that could swallow a signal on the way.
#![expect(
    unsafe_code,
    reason = "signals of any number, the real-time ones too, and SIGCHLD's disposition"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::model::signal::{Sender, Signal};
use crate::sys::signal;

/// What the processor itself raises, and what the Rust runtime ignores: to block it would make of a broken pipe a message.
const NOT_HELD: [NixSignal; 7] = [
    NixSignal::SIGILL,
    NixSignal::SIGTRAP,
    NixSignal::SIGBUS,
    NixSignal::SIGFPE,
    NixSignal::SIGSEGV,
    NixSignal::SIGSYS,
    NixSignal::SIGPIPE,
];

/// A signal that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub number: i32,
    /// Its name, if it has one everywhere.
    pub signal: Option<Signal>,
    /// Who sent it.
    pub sender: Sender,
    /// The pid of the process that did; 0: of another pid namespace, or of none.
    pub pid: i32,
}

/// The signals, held back.
#[derive(Debug)]
pub struct Relay {
    fd: SignalFd,
    mask: SigSet,
    ignored: Vec<i32>,
    ignores_children: bool,
}

impl Relay {
    /// Holds all signals back from now on.
    ///
    /// # Errors
    /// What sigprocmask(2), signalfd(2) or sigaction(2) said: EMFILE, ENFILE, ENOMEM.
    pub fn install() -> io::Result<Relay> {
        let mut held = SigSet::all();
        for signal in NOT_HELD {
            held.remove(signal);
        }
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let ignored = (1..=libc::SIGRTMAX()).filter(|number| is_ignored(*number));
        let ignored = ignored.collect();
        // With that ignored no child could be waited for.
        // SAFETY: the default is no handler.
        let before = unsafe { nix::sys::signal::signal(NixSignal::SIGCHLD, SigHandler::SigDfl) }?;
        let mask = SigSet::thread_get_mask()?;
        held.thread_set_mask()?;
        Ok(Relay {
            fd,
            mask,
            ignored,
            ignores_children: matches!(before, SigHandler::SigIgn),
        })
    }

    /// Readable when there is something [`pending`](Self::pending).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What has arrived since the last call. No kind of signal is lost; repeats of one may be merged.
    pub fn pending(&mut self) -> Vec<Arrived> {
        let mut all = Vec::new();
        // A descriptor of our own that is open and non-blocking gives signals, or nothing.
        while let Ok(Some(info)) = self.fd.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            all.push(Arrived {
                number,
                signal: signal::from_number(number),
                sender: if info.ssi_code == libc::SI_KERNEL {
                    Sender::Terminal
                } else {
                    Sender::Process
                },
                pid: i32::try_from(info.ssi_pid).unwrap_or_default(),
            });
        }
        all
    }

    /// Whether it was ignored before [`install`](Self::install).
    pub fn was_ignored(&self, number: i32) -> bool {
        self.ignored.contains(&number)
    }

    /// Makes dispositions and mask as they were before [`install`](Self::install): in a child that is about to execute a program. What was sent to
    /// that child meanwhile arrives now.
    pub fn give_back(&self) {
        if self.ignores_children {
            // SAFETY: to ignore is no handler.
            let _ = unsafe { nix::sys::signal::signal(NixSignal::SIGCHLD, SigHandler::SigIgn) };
        }
        // It fails only for a bad `how`.
        let _ = self.mask.thread_set_mask();
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: all zeroes is a valid sigaction, and the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Sends a signal of any number to the process `pid`, which has to be an unreaped child.
///
/// # Errors
/// EPERM: it has changed its user; ESRCH: there is none.
pub fn pass_on(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 1 {
        // kill(2) would take it for "everybody".
        return Err(Errno::ESRCH.into());
    }
    // SAFETY: a system call on two numbers.
    Errno::result(unsafe { libc::kill(pid, number) })?;
    Ok(())
}

/// Does to this process what the signal does by default: stops it until somebody lets it go on, or ends it. Returns at once where that cannot be: pid 1
/// of a container is not ended, and a process that nobody could continue is not stopped.
pub fn raise_default(number: i32) {
    // SAFETY: the default is no handler; to send and to unblock are system calls on a number and on memory of this frame.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, number);
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// From now on no core is left of this process: what it dies of may be another's fault.
pub fn leave_no_core() {
    // It fails only for a value that is neither yes nor no.
    let _ = nix::sys::prctl::set_dumpable(false);
}
