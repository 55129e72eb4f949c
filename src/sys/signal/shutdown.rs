//! The request to finish, as signals bring it: first gracefully, then at once. Each stage has a
//! descriptor that is readable from then on.
#![expect(
    unsafe_code,
    reason = "a signal handler of our own: what it does must be allowed in one"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use super::numbers::number;
use crate::model::signal::Signal;
use crate::sys::io::fd;

/// A pipe that is readable once its stage was asked for, by any number of readers.
#[derive(Debug)]
struct StagePipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl StagePipe {
    fn new() -> io::Result<Self> {
        let (read, write) = fd::pipe()?;
        Ok(StagePipe { read, write })
    }

    /// Writes one byte. It is written once and never read, so the write never blocks.
    fn set_readable(&self) {
        let _ = nix::unistd::write(&self.write, b"!");
    }
}

/// Whether this process was asked to finish. The stages are 0 (not asked), 1 (gracefully) and 2 (at
/// once).
#[derive(Debug)]
pub struct Finish {
    stage: AtomicU32,
    pipes: [StagePipe; 2],
}

impl Finish {
    /// At stage 0.
    ///
    /// # Errors
    /// What pipe2(2) returned: EMFILE, ENFILE.
    pub fn new() -> io::Result<Self> {
        Ok(Finish {
            stage: AtomicU32::new(0),
            pipes: [StagePipe::new()?, StagePipe::new()?],
        })
    }

    /// The stage reached so far: 0, 1 or 2.
    pub fn stage(&self) -> u32 {
        self.stage.load(Ordering::SeqCst).min(2)
    }

    /// Asks for stage `wanted`, if it is not reached yet. Allowed in a signal handler.
    pub fn ask(&self, wanted: u32) {
        self.set_stages(self.stage.fetch_max(wanted, Ordering::SeqCst), wanted);
    }

    /// Asks for the next stage. Allowed in a signal handler.
    pub fn ask_more(&self) {
        // The number cannot overflow in practice: no process gets 2^32 signals.
        let before = self.stage.fetch_add(1, Ordering::SeqCst);
        self.set_stages(before, before.saturating_add(1));
    }

    fn set_stages(&self, before: u32, now: u32) {
        for (pipe, stage) in self.pipes.iter().zip(1..) {
            if before < stage && stage <= now {
                pipe.set_readable();
            }
        }
    }

    /// Readable once the stage is 1 or more.
    pub fn asked(&self) -> BorrowedFd<'_> {
        let [asked, _] = &self.pipes;
        asked.read.as_fd()
    }

    /// Readable once the stage is 2.
    pub fn at_once(&self) -> BorrowedFd<'_> {
        let [_, at_once] = &self.pipes;
        at_once.read.as_fd()
    }
}

/// Makes each of the signals `by_stages` ask for the next stage, and each of `at_once` for the
/// last. Handlers that are installed already stay beside these.
///
/// # Errors
/// What sigaction(2) returned: none that is known.
pub fn on_signals(
    finish: &Arc<Finish>,
    by_stages: &[Signal],
    at_once: &[Signal],
) -> io::Result<()> {
    for signal in by_stages {
        let finish = Arc::clone(finish);
        register(*signal, move || finish.ask_more())?;
    }
    for signal in at_once {
        let finish = Arc::clone(finish);
        register(*signal, move || finish.ask(2))?;
    }
    Ok(())
}

fn register(signal: Signal, ask: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    let handler = move || {
        // The interrupted code may be about to read errno.
        let errno = Errno::last_raw();
        ask();
        Errno::set_raw(errno);
    };
    // SAFETY: the handler changes an atomic number, and writes a byte to a pipe that has room for
    // it: both are allowed there. It does not allocate, lock or panic, and leaves errno as it was.
    // What it captures is never dropped, as it is never unregistered.
    unsafe { signal_hook::low_level::register(number(signal), handler) }.map(drop)
}

/// A descriptor that gets a byte each time `signal` comes (repeats may be merged), from now on.
///
/// # Errors
/// What socketpair(2) or sigaction(2) returned.
pub fn signal_pipe(signal: Signal) -> io::Result<OwnedFd> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(number(signal), write)?;
    Ok(read.into())
}

/// Empties the descriptor of [`signal_pipe`]; whether it had a byte.
pub fn drain_signal_pipe(pipe: BorrowedFd<'_>) -> bool {
    let mut any = false;
    while rustix::io::read(pipe, &mut [0; 64]).is_ok_and(|count| count > 0) {
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::io::poll::{Interest, Poller};
    use crate::sys::signal::send_to_self;

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
    fn g5_the_second_request_means_at_once() {
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
    fn stage_two_implies_stage_one() {
        let finish = Finish::new().expect("made");
        finish.ask(2);
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
    }

    #[test]
    fn each_signal_asks_and_is_readable_on_its_pipe() {
        // Signals that no other test of this program sends.
        let finish = Arc::new(Finish::new().expect("made"));
        on_signals(&finish, &[Signal::Io], &[Signal::Pwr]).expect("handlers");
        let pipe = signal_pipe(Signal::Io).expect("a handler");
        send_to_self(Signal::Io).expect("sent");
        assert_eq!(finish.stage(), 1);
        assert!(drain_signal_pipe(pipe.as_fd()));
        send_to_self(Signal::Pwr).expect("sent");
        assert_eq!((finish.stage(), readable(&finish)), (2, [true, true]));
        assert!(!drain_signal_pipe(pipe.as_fd()), "the other signal");
    }
}
