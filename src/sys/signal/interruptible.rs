//! System calls that wait, and hear nobody meanwhile: accept on a blocking listener that another worker was quicker at, and a lock.
//!
//! Handlers of signals restart what they interrupt, and a signal that comes just before the call begins would be missed anyhow. So there is an
//! alarm, whose handler does not restart: it ticks from a deadline on, or from a signal on that comes during the call, until the call has returned. A tick
//! that comes too early is followed by another one. Nothing ticks while nothing happens.
#![expect(unsafe_code, reason = "signal handlers, and a timer that they set")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::unistd::gettid;

use super::number;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;

/// Between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// A call is under way, or about to be.
static WAITS: AtomicBool = AtomicBool::new(false);

/// The alarm, for the handlers.
static ALARM: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// The handlers stand, and the alarm is for the thread that made this.
#[derive(Debug)]
pub struct Breakable {
    _alarm: Alarm,
}

/// A timer whose signal goes to one thread. No child has it, and no image that is executed.
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
        // SAFETY: it reads one structure of ours and writes the timer's name.
        let made =
            unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut alarm) };
        Errno::result(made)?;
        Ok(Alarm(alarm))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        WAITS.store(false, Ordering::SeqCst);
        // SAFETY: made by `for_this_thread`, and nobody sets it but a signal during a call, which there is none of.
        unsafe { libc::timer_delete(self.0) };
    }
}

impl Breakable {
    /// Installs the alarm's handler, and has the signals `heard` start its ticking besides what is done at them already. To be called once, by
    /// the thread that makes the calls.
    ///
    /// # Errors
    /// What sigaction(2) or timer_create(2) said.
    pub fn install(heard: &[Signal]) -> io::Result<Breakable> {
        let does_nothing = SigHandler::Handler(at_tick);
        let action = SigAction::new(does_nothing, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing at all.
        unsafe { sigaction(NixSignal::SIGALRM, &action)? };
        for signal in heard {
            // SAFETY: it loads atomics, and makes one system call that is allowed in a handler, and cannot fail so as to change errno.
            unsafe { signal_hook::low_level::register(number(*signal), at_signal)? };
        }
        let alarm = Alarm::for_this_thread()?;
        ALARM.store(alarm.0, Ordering::SeqCst);
        Ok(Breakable { _alarm: alarm })
    }

    /// Makes a `call` that waits. It is interrupted (EINTR) when the deadline has come, and soon after a signal. If `ear` is readable, it is not even
    /// begun: a signal came before.
    ///
    /// # Errors
    /// EINTR; else what the call said.
    pub fn until<T>(
        &self,
        deadline: Option<Time>,
        ear: BorrowedFd<'_>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        // From here on a signal makes it tick; what came earlier has left its word in the ear.
        WAITS.store(true, Ordering::SeqCst);
        let heard = Poller::new()
            .wait(&[(ear, Interest::READ)], Some(Time(0)))
            .map(|ready| ready.iter().any(|ready| ready.any()));
        let done = match heard {
            Ok(false) => {
                if let Some(deadline) = deadline {
                    // Nothing at all would mean never.
                    ring(deadline.since(now()).max(Duration::from_nanos(1)));
                }
                call()
            }
            Ok(true) => Err(io::ErrorKind::Interrupted.into()),
            Err(error) => Err(error),
        };
        quiet();
        done
    }

    /// Makes a `call` that is not expected to wait: if it does all the same, it is interrupted in no time.
    ///
    /// # Errors
    /// EINTR; else what the call said.
    pub fn briefly<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        ring(TICK);
        let done = call();
        quiet();
        done
    }
}

extern "C" fn at_tick(_: libc::c_int) {}

fn at_signal() {
    if WAITS.load(Ordering::SeqCst) {
        ring(TICK);
    }
}

/// The first tick after this, and then one after the other.
fn ring(first: Duration) {
    set(first, TICK);
}

fn quiet() {
    // In this order: a signal in between rings once more, and is quietened.
    WAITS.store(false, Ordering::SeqCst);
    set(Duration::ZERO, Duration::ZERO);
}

fn set(first: Duration, every: Duration) {
    let times = libc::itimerspec {
        it_interval: timespec(every),
        it_value: timespec(first),
    };
    let alarm = ALARM.load(Ordering::SeqCst);
    // SAFETY: a plain structure that is only read; nobody wants to know what was set before. The timer is there as long as it stands in `ALARM`.
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

    /// Waits in accept, where nobody connects: for nothing, for a deadline, for signals; and where a signal came before.
    pub fn play(talk: &mut Talk) {
        let mut signals = Signals::install().expect("handlers");
        let breakable = Breakable::install(&[Signal::Term, Signal::Usr1]).expect("handlers");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let accept = || {
            let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
            Ok(nix::sys::socket::accept4(listener.as_raw_fd(), flags)?)
        };
        let told = |done: io::Result<i32>| done.map_err(|error| error.kind());
        let broken = Err(io::ErrorKind::Interrupted);
        assert_eq!(told(breakable.briefly(accept)), broken);
        let began = now();
        let deadline = Some(began + Duration::from_millis(20));
        let ear = signals.fd().try_clone_to_owned().expect("a copy");
        assert_eq!(told(breakable.until(deadline, ear.as_fd(), accept)), broken);
        assert!(now().since(began) >= Duration::from_millis(20));
        for round in 0..200 {
            talk.say("waiting");
            let mut heard = Vec::new();
            while heard.is_empty() {
                assert_eq!(told(breakable.until(None, ear.as_fd(), accept)), broken);
                heard = signals.pending();
            }
            talk.say(&format!("{round} {:?}", heard[0].0));
        }
        let none = timespec(Duration::ZERO);
        let mut left = libc::itimerspec {
            it_interval: none,
            it_value: none,
        };
        // SAFETY: it fills a structure of ours.
        unsafe { libc::timer_gettime(breakable._alarm.0, &raw mut left) };
        let (next, every) = (left.it_value, left.it_interval);
        assert_eq!((next.tv_nsec, every.tv_nsec), (0, 0), "it ticks on");
        talk.say("quiet");
    }

    #[test]
    fn a_call_that_waits_is_broken_by_a_deadline_and_by_signals_whenever_they_come() {
        let mut peer = Peer::start("breakable", &[]);
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
