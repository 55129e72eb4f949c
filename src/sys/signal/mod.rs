//! Signals to the master: a handler that only notes them and wakes the loop through a socket pair (U8).

pub mod forward;
pub mod interruptible;
pub mod shutdown;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::model::signal::{Sender, Signal};
use crate::sys::process::group::ignores;

/// The signals that have a handler once [`Signals::install`] has run.
pub const HANDLED: [Signal; 10] = [
    Signal::Hup,
    Signal::Int,
    Signal::Quit,
    Signal::Term,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Winch,
    Signal::Ttin,
    Signal::Ttou,
    Signal::Chld,
];

/// Sends a signal to this very process.
///
/// # Errors
/// None that is known; what kill(2) said.
pub fn send_to_self(signal: Signal) -> io::Result<()> {
    let signal = NixSignal::try_from(number(signal))?;
    Ok(nix::sys::signal::raise(signal)?)
}

/// The handlers, and what they have noted.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    ignored: Vec<Signal>,
}

impl Signals {
    /// Installs the handlers for HUP, INT, QUIT, TERM, USR1, USR2, WINCH, TTIN, TTOU and CHLD. SIGPIPE stays ignored, as the
    /// Rust runtime has set it. Every signal is unblocked: whoever started us may have blocked some, and a blocked CHLD or TERM
    /// would never be heard.
    ///
    /// # Errors
    /// What socketpair(2), sigaction(2) or sigprocmask(2) said.
    pub fn install() -> io::Result<Self> {
        let signals = Self::install_blocked()?;
        // Only now: what was held back so far arrives, and none of it by its default action.
        SigSet::empty().thread_set_mask()?;
        Ok(signals)
    }

    /// As [`Signals::install`], and what is blocked stays so: an image that may yet go back to the one before must not take what came
    /// meanwhile.
    ///
    /// # Errors
    /// The same.
    pub fn install_blocked() -> io::Result<Self> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let ignored = HANDLED
            .into_iter()
            .filter(|signal| ignores(own, *signal))
            .collect();
        let (read, write) = UnixStream::pair()?;
        let numbers = HANDLED.map(number);
        let delivery =
            SignalDelivery::with_pipe(read, write, WithOrigin::default(), numbers.iter())?;
        // A log that reaches RLIMIT_FSIZE gets EFBIG, not the end of the master; a handler, unlike ignoring it, no worker inherits.
        signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default())?;
        Ok(Signals { delivery, ignored })
    }

    /// Readable when there is something [`pending`](Self::pending).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// What has arrived since the last call, in the order of the signals' numbers. No kind of signal is lost; repeats of one
    /// may be merged.
    pub fn pending(&mut self) -> Vec<(Signal, Sender)> {
        self.delivery
            .pending()
            .filter_map(|origin| {
                // A full queue makes the kernel say "a process" of a signal whose sender it could not keep: the harmless side
                // to err on, since a process's signals are the ones that mean something.
                let sender = match origin.cause {
                    Cause::Kernel => Sender::Terminal,
                    _ => Sender::Process,
                };
                from_number(origin.signal).map(|signal| (signal, sender))
            })
            .collect()
    }

    /// What was ignored before [`install`](Self::install), for the image that comes next: handlers do not survive an exec, and what they hid would
    /// be lost.
    pub fn ignored(&self) -> &[Signal] {
        &self.ignored
    }

    /// What was ignored before the image before this one installed its handlers.
    pub fn also_ignored(&mut self, ignored: &[Signal]) {
        self.ignored.extend_from_slice(ignored);
    }

    /// Whether `signal` was ignored before [`install`](Self::install): `nohup` asks so for the terminal's HUP.
    pub fn was_ignored(&self, signal: Signal) -> bool {
        self.ignored.contains(&signal)
    }
}

/// The signal mask of a thread, to be put back.
#[derive(Debug)]
#[must_use = "the signals stay blocked until the mask is restored"]
pub struct Mask(SigSet);

/// Blocks every signal in this thread.
pub fn block_all() -> Mask {
    // It fails only for a bad `how`; the mask is then as it was, and the master's own is empty.
    let old = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    Mask(old.unwrap_or_else(|_| SigSet::empty()))
}

/// Puts the mask back; what was blocked meanwhile arrives now.
pub fn restore(mask: Mask) {
    let _ = mask.0.thread_set_mask();
}

/// Unblocks every signal: what was blocked arrives now.
pub fn unblock_all() {
    restore(Mask(SigSet::empty()));
}

/// The number of a signal on this machine.
pub fn number(signal: Signal) -> i32 {
    nix_signal(signal) as i32
}

/// The signal with this number, if it is one that has a name everywhere.
pub fn from_number(number: i32) -> Option<Signal> {
    let wanted = NixSignal::try_from(number).ok()?;
    Signal::ALL
        .iter()
        .copied()
        .find(|signal| nix_signal(*signal) == wanted)
}

fn nix_signal(signal: Signal) -> NixSignal {
    match signal {
        Signal::Hup => NixSignal::SIGHUP,
        Signal::Int => NixSignal::SIGINT,
        Signal::Quit => NixSignal::SIGQUIT,
        Signal::Ill => NixSignal::SIGILL,
        Signal::Trap => NixSignal::SIGTRAP,
        Signal::Abrt => NixSignal::SIGABRT,
        Signal::Bus => NixSignal::SIGBUS,
        Signal::Fpe => NixSignal::SIGFPE,
        Signal::Kill => NixSignal::SIGKILL,
        Signal::Usr1 => NixSignal::SIGUSR1,
        Signal::Segv => NixSignal::SIGSEGV,
        Signal::Usr2 => NixSignal::SIGUSR2,
        Signal::Pipe => NixSignal::SIGPIPE,
        Signal::Alrm => NixSignal::SIGALRM,
        Signal::Term => NixSignal::SIGTERM,
        Signal::Chld => NixSignal::SIGCHLD,
        Signal::Cont => NixSignal::SIGCONT,
        Signal::Stop => NixSignal::SIGSTOP,
        Signal::Tstp => NixSignal::SIGTSTP,
        Signal::Ttin => NixSignal::SIGTTIN,
        Signal::Ttou => NixSignal::SIGTTOU,
        Signal::Urg => NixSignal::SIGURG,
        Signal::Xcpu => NixSignal::SIGXCPU,
        Signal::Xfsz => NixSignal::SIGXFSZ,
        Signal::Vtalrm => NixSignal::SIGVTALRM,
        Signal::Prof => NixSignal::SIGPROF,
        Signal::Winch => NixSignal::SIGWINCH,
        Signal::Io => NixSignal::SIGIO,
        Signal::Pwr => NixSignal::SIGPWR,
        Signal::Sys => NixSignal::SIGSYS,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    use super::*;
    use crate::sys::io::poll::{Interest, Poller};
    use crate::sys::machine::clock::now;
    use crate::sys::testing::{Peer, Talk};

    fn next(signals: &mut Signals) -> Vec<(Signal, Sender)> {
        let deadline = Some(now() + crate::sys::testing::PATIENCE);
        Poller::new()
            .wait(&[(signals.fd(), Interest::READ)], deadline)
            .expect("poll");
        signals.pending()
    }

    /// Tells what it gets from others; then makes a terminal of its own and tells what that sends.
    pub fn play(talk: &mut Talk) {
        let mut signals = Signals::install().expect("handlers");
        talk.say("installed");
        for _ in 0..3 {
            talk.say(&format!("{:?}", next(&mut signals)));
        }
        rustix::process::setsid().expect("a new session");
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        unlockpt(&terminal).expect("unlocked");
        let name = ptsname(&terminal, Vec::new()).expect("its name");
        let name = name.to_str().expect("a name").to_owned();
        let _slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name)
            .expect("it controls us");
        let size = Winsize {
            ws_row: 7,
            ws_col: 7,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("resized");
        talk.say(&format!("{:?}", next(&mut signals)));
        let mut terminal = std::fs::File::from(terminal);
        terminal.write_all(b"\x03").expect("typed");
        talk.say(&format!("{:?}", next(&mut signals)));
        drop(terminal);
        talk.say(&format!("{:?}", next(&mut signals)));
    }

    #[test]
    fn u8_u12_signals_arrive_and_the_terminals_are_told_from_a_processs() {
        let mut peer = Peer::start("signals", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("installed"));
        let pid = Pid::from_raw(peer.pid());
        for (signal, told) in [
            (NixSignal::SIGTERM, "[(Term, Process)]"),
            (NixSignal::SIGWINCH, "[(Winch, Process)]"),
            (NixSignal::SIGINT, "[(Int, Process)]"),
        ] {
            kill(pid, signal).expect("sent");
            assert_eq!(peer.talk.hear().as_deref(), Some(told));
        }
        for told in [
            "[(Winch, Terminal)]",
            "[(Int, Terminal)]",
            "[(Hup, Terminal)]",
        ] {
            assert_eq!(peer.talk.hear().as_deref(), Some(told));
        }
    }

    #[test]
    fn numbers_round_trip() {
        for signal in Signal::ALL {
            assert_eq!(from_number(number(*signal)), Some(*signal));
        }
        assert_eq!(number(Signal::Kill), 9);
        assert_eq!(from_number(0), None);
        assert_eq!(from_number(-3), None);
        assert_eq!(from_number(64), None);
    }

    #[test]
    fn a_blocked_mask_is_put_back() {
        let before = SigSet::thread_get_mask().expect("mask");
        let mask = block_all();
        assert!(
            SigSet::thread_get_mask()
                .expect("mask")
                .contains(NixSignal::SIGUSR2)
        );
        restore(mask);
        assert_eq!(SigSet::thread_get_mask().expect("mask"), before);
    }
}
