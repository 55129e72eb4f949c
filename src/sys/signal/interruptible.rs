//! Blocking system calls that a signal or a deadline interrupts: accept(2) on a blocking listener
//! when another worker took the connection first, and a lock of fcntl(2).
//!
//! The handlers of signals restart the calls that they interrupt (SA_RESTART), and a signal that
//! comes just before the call begins would be missed in any case. So there is an alarm whose
//! handler does not restart the call. It ticks from a deadline on, or from a signal on that comes
//! during the call, until the call has returned. A tick that comes before the call begins is
//! followed by another tick. While nothing happens, nothing ticks.
#![expect(unsafe_code, reason = "signal handlers, and a timer that they set")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::unistd::gettid;

use super::numbers::number;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;

/// The time between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// Whether a call is under way, or about to begin.
static IS_CALLING: AtomicBool = AtomicBool::new(false);

/// The timer, for the signal handlers.
static ALARM: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The handlers are installed; the alarm interrupts the thread that made this value.
#[derive(Debug)]
pub struct Interruptible {
    _alarm: Alarm,
}

/// A timer whose signal goes to one thread. Neither a child nor an image executed later inherits it
/// (timer_create(2)).
#[derive(Debug)]
struct Alarm(libc::timer_t);

impl Alarm {
    fn for_this_thread() -> io::Result<Alarm> {
        // SAFETY: plain numbers; all zeroes is a valid one.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = NixSignal::SIGALRM as libc::c_int;
        event.sigev_notify_thread_id = gettid().as_raw();
        let mut alarm = std::ptr::null_mut();
        // SAFETY: it reads one structure of ours and writes the timer's id.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut alarm) };
        Errno::result(made)?;
        Ok(Alarm(alarm))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        IS_CALLING.store(false, Ordering::SeqCst);
        // SAFETY: made by `for_this_thread`; only a signal during a call sets the timer, and no
        // call is under way here.
        unsafe { libc::timer_delete(self.0) };
    }
}

impl Interruptible {
    /// Installs the alarm's handler, and makes each of the `signals` start the ticks; handlers that
    /// these signals have already stay. Call it once, in the thread that makes the calls.
    ///
    /// # Errors
    /// What sigaction(2) or timer_create(2) returned.
    pub fn install(signals: &[Signal]) -> io::Result<Interruptible> {
        let does_nothing = SigHandler::Handler(on_tick);
        let action = SigAction::new(does_nothing, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing at all.
        unsafe { sigaction(NixSignal::SIGALRM, &action)? };
        for signal in signals {
            // SAFETY: it loads atomics, and makes one system call that is allowed in a handler, and
            // cannot fail in a way that changes errno.
            unsafe { signal_hook::low_level::register(number(*signal), on_signal)? };
        }
        let alarm = Alarm::for_this_thread()?;
        ALARM.store(alarm.0, Ordering::SeqCst);
        Ok(Interruptible { _alarm: alarm })
    }

    /// Makes a `call` that blocks. The call is interrupted (EINTR) at the deadline, and soon after
    /// a signal. If `wakeup` is readable, a signal came before: then the call is not even begun.
    ///
    /// # Errors
    /// EINTR; else what the call returned.
    pub fn until<T>(
        &self,
        deadline: Option<Time>,
        wakeup: BorrowedFd<'_>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        // The order matters. From here on a signal starts the ticks; a signal that came before has
        // made `wakeup` readable.
        IS_CALLING.store(true, Ordering::SeqCst);
        let signalled = Poller::new()
            .wait(&[(wakeup, Interest::READ)], Some(Time(0)))
            .map(|ready| ready.iter().any(|ready| ready.any()));
        let done = match signalled {
            Ok(false) => {
                if let Some(deadline) = deadline {
                    // timer_settime(2) takes zero for "never".
                    start_ticks(deadline.since(now()).max(Duration::from_nanos(1)));
                }
                call()
            }
            Ok(true) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(error),
        };
        stop_ticks();
        done
    }

    /// Makes a `call` that should not block: if it blocks all the same, it is interrupted at the
    /// next tick.
    ///
    /// # Errors
    /// EINTR; else what the call returned.
    pub fn briefly<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        start_ticks(TICK);
        let done = call();
        stop_ticks();
        done
    }
}

extern "C" fn on_tick(_: libc::c_int) {}

fn on_signal() {
    if IS_CALLING.load(Ordering::SeqCst) {
        start_ticks(TICK);
    }
}

/// Ticks after `first`, and then every [`TICK`].
fn start_ticks(first: Duration) {
    set_timer(first, TICK);
}

fn stop_ticks() {
    // In this order: a signal between the two lines starts the ticks, and the second line stops
    // them.
    IS_CALLING.store(false, Ordering::SeqCst);
    set_timer(Duration::ZERO, Duration::ZERO);
}

fn set_timer(first: Duration, every: Duration) {
    let times = libc::itimerspec {
        it_interval: timespec(every),
        it_value: timespec(first),
    };
    let alarm = ALARM.load(Ordering::SeqCst);
    // SAFETY: a plain structure that is only read, and a null pointer for the old setting, which is
    // not wanted. The timer exists as long as it is in `ALARM`.
    unsafe { libc::timer_settime(alarm, 0, &raw const times, std::ptr::null_mut()) };
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::os::fd::{AsFd, AsRawFd};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;
    use crate::sys::signal::Signals;
    use crate::sys::testing::{Peer, Talk};

    /// Blocks in accept, where no client connects: for a brief call, for a deadline, for signals
    /// during and before the call.
    pub fn play(talk: &mut Talk) {
        let mut signals = Signals::install().expect("handlers");
        let interruptible =
            Interruptible::install(&[Signal::Term, Signal::Usr1]).expect("handlers");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let accept = || {
            let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
            Ok(nix::sys::socket::accept4(listener.as_raw_fd(), flags)?)
        };
        let kind = |done: io::Result<i32>| done.map_err(|error| error.kind());
        let interrupted = Err(io::ErrorKind::Interrupted);
        assert_eq!(kind(interruptible.briefly(accept)), interrupted);
        let began = now();
        let deadline = Some(began + Duration::from_millis(20));
        let wakeup = signals.fd().try_clone_to_owned().expect("a copy");
        assert_eq!(
            kind(interruptible.until(deadline, wakeup.as_fd(), accept)),
            interrupted
        );
        assert!(now().since(began) >= Duration::from_millis(20));
        for round in 0..200 {
            talk.say("waiting");
            let mut received = Vec::new();
            while received.is_empty() {
                assert_eq!(
                    kind(interruptible.until(None, wakeup.as_fd(), accept)),
                    interrupted
                );
                received = signals.pending();
            }
            talk.say(&format!("{round} {:?}", received[0].0));
        }
        let none = timespec(Duration::ZERO);
        let mut left = libc::itimerspec {
            it_interval: none,
            it_value: none,
        };
        // SAFETY: it fills a structure of ours.
        unsafe { libc::timer_gettime(interruptible._alarm.0, &raw mut left) };
        let (next, every) = (left.it_value, left.it_interval);
        assert_eq!((next.tv_nsec, every.tv_nsec), (0, 0), "it ticks on");
        talk.say("quiet");
    }

    #[test]
    fn a_call_that_waits_is_interrupted_by_a_deadline_and_by_signals_whenever_they_come() {
        let mut peer = Peer::start("interruptible", &[]);
        let pid = Pid::from_raw(peer.pid());
        for round in 0..200 {
            assert_eq!(peer.talk.hear().as_deref(), Some("waiting"));
            let (signal, name) = if round % 2 == 0 {
                (NixSignal::SIGTERM, "Term")
            } else {
                (NixSignal::SIGUSR1, "Usr1")
            };
            kill(pid, signal).expect("sent");
            assert_eq!(
                peer.talk.hear().as_deref(),
                Some(format!("{round} {name}").as_str())
            );
        }
        assert_eq!(peer.talk.hear().as_deref(), Some("quiet"));
    }
}
