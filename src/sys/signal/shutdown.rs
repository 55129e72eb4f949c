//! The word to finish, as signals bring it: readable on a descriptor from then on, and by stages.
#![expect(
    unsafe_code,
    reason = "a signal handler of our own: what it does must be allowed in one"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::signal;

/// A stage that was asked for: a number, and a pipe that is readable from then on, by however many.
#[derive(Debug)]
struct Mark {
    read: OwnedFd,
    write: OwnedFd,
}

impl Mark {
    fn new() -> io::Result<Self> {
        let (read, write) = fd::pipe()?;
        Ok(Mark { read, write })
    }

    /// Written to once, and never read: so it never blocks.
    fn set(&self) {
        let _ = nix::unistd::write(&self.write, b"!");
    }
}

/// Whether this process was asked to finish: once, or once more. The stages are 0 (it was not), 1 (gracefully) and 2 (at once).
#[derive(Debug)]
pub struct Finish {
    stage: AtomicU32,
    marks: [Mark; 2],
}

impl Finish {
    /// Not asked for.
    ///
    /// # Errors
    /// What pipe2(2) said: EMFILE, ENFILE.
    pub fn new() -> io::Result<Self> {
        Ok(Finish {
            stage: AtomicU32::new(0),
            marks: [Mark::new()?, Mark::new()?],
        })
    }

    /// The stage.
    pub fn stage(&self) -> u32 {
        self.stage.load(Ordering::SeqCst).min(2)
    }

    /// Asks for stage `wanted`, if it is not that far. Allowed in a signal handler.
    pub fn ask(&self, wanted: u32) {
        self.mark(self.stage.fetch_max(wanted, Ordering::SeqCst), wanted);
    }

    /// Asks for the next stage. Allowed in a signal handler.
    pub fn ask_more(&self) {
        // No process is sent so many signals that this comes back to the beginning.
        let before = self.stage.fetch_add(1, Ordering::SeqCst);
        self.mark(before, before.saturating_add(1));
    }

    fn mark(&self, before: u32, now: u32) {
        for (mark, stage) in self.marks.iter().zip(1..) {
            if before < stage && stage <= now {
                mark.set();
            }
        }
    }

    /// Readable once the stage is 1 or more.
    pub fn asked(&self) -> BorrowedFd<'_> {
        let [asked, _] = &self.marks;
        asked.read.as_fd()
    }

    /// Readable once the stage is 2.
    pub fn at_once(&self) -> BorrowedFd<'_> {
        let [_, at_once] = &self.marks;
        at_once.read.as_fd()
    }
}

/// Has each of the signals `by_stages` ask for the next stage, and each of `at_once` for the last. Handlers that stand already are kept beside these.
///
/// # Errors
/// What sigaction(2) said: none that is known.
pub fn on_signals(
    finish: &Arc<Finish>,
    by_stages: &[Signal],
    at_once: &[Signal],
) -> io::Result<()> {
    for signal in by_stages {
        let finish = Arc::clone(finish);
        on(*signal, move || finish.ask_more())?;
    }
    for signal in at_once {
        let finish = Arc::clone(finish);
        on(*signal, move || finish.ask(2))?;
    }
    Ok(())
}

fn on(signal: Signal, ask: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    let handler = move || {
        // Whoever is interrupted may be about to look at it.
        let errno = Errno::last_raw();
        ask();
        Errno::set_raw(errno);
    };
    // SAFETY: the handler changes an atomic number, and writes a byte to a pipe that has room for it: both are allowed there. It does not
    // allocate, lock or panic, and leaves errno as it was. What it captures is never dropped: it is never unregistered.
    unsafe { signal_hook::low_level::register(signal::number(signal), handler) }.map(drop)
}

/// A descriptor on which a byte can be read for each time that `signal` has come (repeats may be merged), from now on.
///
/// # Errors
/// What socketpair(2) or sigaction(2) said.
pub fn told_of(signal: Signal) -> io::Result<OwnedFd> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signal::number(signal), write)?;
    Ok(read.into())
}

/// Takes what [`told_of`] has told so far; whether that was anything.
pub fn take_told(told: BorrowedFd<'_>) -> bool {
    let mut any = false;
    while rustix::io::read(told, &mut [0; 64]).is_ok_and(|count| count > 0) {
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::io::poll::{Interest, Poller};

    fn readable(finish: &Finish) -> [bool; 2] {
        let both = [
            (finish.asked(), Interest::READ),
            (finish.at_once(), Interest::READ),
        ];
        let mut poller = Poller::new();
        let ready = poller.wait(&both, Some(Default::default()));
        let ready = ready.expect("polled");
        [ready[0].read, ready[1].read]
    }

    #[test]
    fn g5_the_first_word_asks_and_the_second_means_at_once() {
        let finish = Finish::new().expect("made");
        assert_eq!((finish.stage(), readable(&finish)), (0, [false, false]));
        finish.ask_more();
        assert_eq!((finish.stage(), readable(&finish)), (1, [true, false]));
        finish.ask(1);
        assert_eq!((finish.stage(), readable(&finish)), (1, [true, false]));
        finish.ask_more();
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
        finish.ask_more();
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
    }

    #[test]
    fn at_once_is_asked_for_as_well() {
        let finish = Finish::new().expect("made");
        finish.ask(2);
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
    }

    #[test]
    fn signals_ask_and_each_is_told() {
        // Signals that no other test of this program sends.
        let finish = Arc::new(Finish::new().expect("made"));
        on_signals(&finish, &[Signal::Io], &[Signal::Pwr]).expect("handlers");
        let told = told_of(Signal::Io).expect("a handler");
        signal::send_to_self(Signal::Io).expect("sent");
        assert_eq!(finish.stage(), 1);
        assert!(take_told(told.as_fd()));
        signal::send_to_self(Signal::Pwr).expect("sent");
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
        assert!(!take_told(told.as_fd()), "the other signal");
    }
}
