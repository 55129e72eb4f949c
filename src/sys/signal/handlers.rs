//! Signals to the master: a handler that only records them and wakes the loop through a socket pair
//! (U8).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use super::disposition::is_ignored;
use super::numbers::{from_number, number};
use crate::model::signal::{Sender, Signal};

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

/// The installed handlers, and the signals that they have recorded.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    ignored: Vec<Signal>,
}

impl Signals {
    /// Installs the handlers for HUP, INT, QUIT, TERM, USR1, USR2, WINCH, TTIN, TTOU and CHLD.
    /// SIGPIPE stays ignored, as the Rust runtime has set it. Every signal is unblocked: our parent
    /// may have blocked some, and a blocked CHLD or TERM would never arrive.
    ///
    /// # Errors
    /// What socketpair(2), sigaction(2) or sigprocmask(2) returned.
    pub fn install() -> io::Result<Self> {
        let signals = Self::install_blocked()?;
        // Only after the handlers are installed: signals that were blocked so far arrive now, and
        // none of them may take its default action.
        SigSet::empty().thread_set_mask()?;
        Ok(signals)
    }

    /// Like [`Signals::install`], but leaves blocked signals blocked. An image that may still
    /// return to the previous one must not take signals that came meanwhile.
    ///
    /// # Errors
    /// The same.
    pub fn install_blocked() -> io::Result<Self> {
        let ignored = HANDLED
            .into_iter()
            .filter(|signal| is_ignored(number(*signal)))
            .collect();
        let (read, write) = UnixStream::pair()?;
        let numbers = HANDLED.map(number);
        let delivery =
            SignalDelivery::with_pipe(read, write, WithOrigin::default(), numbers.iter())?;
        // With a handler, a log that reaches RLIMIT_FSIZE gets EFBIG instead of killing the master.
        // It is not ignored, because workers would inherit that.
        signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default())?;
        Ok(Signals { delivery, ignored })
    }

    /// Readable when there is something [`pending`](Self::pending).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// The signals that have arrived since the last call, in the order of their numbers. No kind of
    /// signal is lost; repeats of one kind may be merged.
    pub fn pending(&mut self) -> Vec<(Signal, Sender)> {
        self.delivery
            .pending()
            .filter_map(|origin| {
                // When its signal queue is full, the kernel drops the sender and reports "a
                // process". That is the safe mistake: a process's signals are the ones that must be
                // obeyed.
                let sender = match origin.cause {
                    Cause::Kernel => Sender::Terminal,
                    _ => Sender::Process,
                };
                from_number(origin.signal).map(|signal| (signal, sender))
            })
            .collect()
    }

    /// The signals that were ignored before [`install`](Self::install), for the next image:
    /// handlers do not survive an exec, so it could not find out what they replaced.
    pub fn ignored(&self) -> &[Signal] {
        &self.ignored
    }

    /// Adds the signals that were ignored before the previous image installed its handlers.
    pub fn add_ignored(&mut self, ignored: &[Signal]) {
        self.ignored.extend_from_slice(ignored);
    }

    /// Whether `signal` was ignored before [`install`](Self::install): `nohup` does that with the
    /// terminal's HUP.
    pub fn was_ignored(&self, signal: Signal) -> bool {
        self.ignored.contains(&signal)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use nix::sys::signal::{Signal as NixSignal, kill};
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

    /// Prints the signals that it gets from the test; then makes a terminal of its own and prints
    /// the signals that this one sends.
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
    fn u8_u12_signals_of_terminals_and_processes_are_distinguished() {
        let mut peer = Peer::start("signals", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("installed"));
        let pid = Pid::from_raw(peer.pid());
        for (signal, line) in [
            (NixSignal::SIGTERM, "[(Term, Process)]"),
            (NixSignal::SIGWINCH, "[(Winch, Process)]"),
            (NixSignal::SIGINT, "[(Int, Process)]"),
        ] {
            kill(pid, signal).expect("sent");
            assert_eq!(peer.talk.hear().as_deref(), Some(line));
        }
        for line in [
            "[(Winch, Terminal)]",
            "[(Int, Terminal)]",
            "[(Hup, Terminal)]",
        ] {
            assert_eq!(peer.talk.hear().as_deref(), Some(line));
        }
    }
}
