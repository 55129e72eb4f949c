//! Signals of a process that passes them on to a child: every signal that can be blocked is blocked
//! and read, with its sender.
//!
//! The signals are blocked and read from a signalfd(2), not handled. So the dispositions stay as
//! they were given, and a child that restores the mask has them as after an exec. No handler of
//! ours can swallow a signal on the way.
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

use super::disposition::is_ignored;
use super::numbers;
use crate::model::signal::{Sender, Signal};

/// A signal that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// The signal's number on this machine.
    pub number: i32,
    /// The signal's name, if it is one that every system has.
    pub signal: Option<Signal>,
    /// What sent the signal: the terminal or a process.
    pub sender: Sender,
    /// The pid of the sending process; 0: of another pid namespace, or no process.
    pub pid: i32,
}

/// The blocked signals, and the state to restore in a child.
#[derive(Debug)]
pub struct Relay {
    fd: SignalFd,
    mask: SigSet,
    ignored: Vec<i32>,
    ignores_children: bool,
}

impl Relay {
    /// Blocks all signals from now on, also those that the processor raises: what a process sends
    /// is read here, and a fault of our own ends this process all the same, because the kernel
    /// forces such a signal through the mask.
    ///
    /// # Errors
    /// What sigprocmask(2), signalfd(2) or sigaction(2) returned: EMFILE, ENFILE, ENOMEM.
    pub fn install() -> io::Result<Relay> {
        let blocked = SigSet::all();
        let fd = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let ignored = (1..=libc::SIGRTMAX()).filter(|number| is_ignored(*number));
        let ignored = ignored.collect();
        // With SIGCHLD ignored, the kernel reaps children itself and none could be waited for.
        // SAFETY: the default is no handler.
        let before = unsafe { nix::sys::signal::signal(NixSignal::SIGCHLD, SigHandler::SigDfl) }?;
        let mask = SigSet::thread_get_mask()?;
        blocked.thread_set_mask()?;
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

    /// The signals that have arrived since the last call. No kind of signal is lost; repeats of one
    /// kind may be merged.
    pub fn pending(&mut self) -> Vec<ReceivedSignal> {
        let mut all = Vec::new();
        // A read of our own open, non-blocking signalfd returns signals, or none.
        while let Ok(Some(info)) = self.fd.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            all.push(ReceivedSignal {
                number,
                signal: numbers::from_number(number),
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

    /// Whether the signal was ignored before [`install`](Self::install).
    pub fn was_ignored(&self, number: i32) -> bool {
        self.ignored.contains(&number)
    }

    /// Restores the dispositions and the mask from before [`install`](Self::install): for a child
    /// that is about to execute a program. A signal that was sent to that child meanwhile arrives
    /// now.
    pub fn restore(&self) {
        if self.ignores_children {
            // SAFETY: to ignore is no handler.
            let _ = unsafe { nix::sys::signal::signal(NixSignal::SIGCHLD, SigHandler::SigIgn) };
        }
        // It fails only for a bad `how`.
        let _ = self.mask.thread_set_mask();
    }
}

/// Sends a signal of any number to the process `pid`, which has to be an unreaped child.
///
/// # Errors
/// EPERM: it has changed its user; ESRCH: there is none.
pub fn send_to_child(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 1 {
        // kill(2) would take 0, 1 or less for other processes, or for all.
        return Err(Errno::ESRCH.into());
    }
    // SAFETY: a system call on two numbers.
    Errno::result(unsafe { libc::kill(pid, number) })?;
    Ok(())
}

/// Does to this process what the signal does by default: stops it until it is continued, or ends
/// it. Returns at once where that is impossible: the kernel does not end pid 1 of a container, and
/// does not stop a process in an orphaned process group, as no shell could continue it.
pub fn raise_default(number: i32) {
    // SAFETY: the default is no handler; to send and to unblock are system calls on a number and on
    // memory of this frame.
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

/// From now on this process leaves no core: the signal that it dies of may have been meant for the
/// child.
pub fn disable_core_dumps() {
    // It fails only for a value other than yes or no.
    let _ = nix::sys::prctl::set_dumpable(false);
}
