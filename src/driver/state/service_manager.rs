//! The line to the service manager: says what the model decides, and never waits for anybody to hear it.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::model::Supervisor;
use crate::model::service_manager::{Said, Say, Upward as Decider};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::sys::notify;
use crate::wire::handover;
use crate::wire::service_manager::{render, watchdog};

/// What the environment tells of a service manager above us. The variables stay where they are: an image that is executed in this one's
/// place finds them again.
#[derive(Debug)]
pub struct Upward {
    born: u32,
    address: OsString,
    decider: Decider,
    /// That it cannot be told was told.
    warned: bool,
    /// It never will be.
    deaf: bool,
}

impl Upward {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which `lookup` finds; None: nobody listens. `born`: the pid that our parent started, which is another
    /// than ours if we have detached since. `said`: what was said before an exec.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<OsString>,
        born: u32,
        said: Said,
    ) -> Option<Upward> {
        let address = lookup("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let text = |name| lookup(name).map(|value| value.to_string_lossy().into_owned());
        let (usec, of) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        let limit = watchdog(usec.as_deref(), of.as_deref(), born);
        let decider = Decider::new(
            std::process::id(),
            limit.map(Duration::from_micros),
            said,
            clock::now(),
        );
        Some(Upward {
            born,
            address,
            decider,
            warned: false,
            deaf: false,
        })
    }

    /// For the image that is executed in our place.
    pub fn handed_over(&self) -> handover::Upward {
        handover::Upward {
            born: self.born,
            said: self.decider.said().clone(),
        }
    }

    /// A reload begins. To be told before it may fail.
    pub fn reload_begins(&mut self) {
        self.decider.reload_begins(clock::now());
    }

    /// The process `pid` is the service from now on, and this one says no more.
    pub fn hand_over(&mut self, pid: u32, log: &Log) {
        let message = self.decider.hand_over(pid);
        // Whoever comes says it again by itself.
        let _ = self.send(&message, log);
    }

    /// Everything is to be said again: this process was not listened to so far, or is the service once more.
    pub fn say_again(&mut self) {
        self.decider.say_again();
    }

    /// When to [`speak`](Self::speak) though nothing happened.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.decider.deadline().filter(|_| !self.deaf)
    }

    /// Says what there is to say.
    pub(super) fn speak(&mut self, supervisor: &Supervisor, log: &Log) {
        if self.deaf {
            return;
        }
        let (now, facts) = (clock::now(), supervisor.facts());
        while let Some(message) = self.decider.next(now, &facts) {
            match self.send(&message, log) {
                Ok(()) => self.decider.sent(),
                Err(again) => return self.decider.lost(now, again),
            }
        }
    }

    /// The error: whether it may be tried again.
    fn send(&mut self, message: &[Say], log: &Log) -> Result<(), bool> {
        let text = render(message);
        log.debug(format_args!(
            "service manager told: {}",
            text.replace('\n', " ")
        ));
        let Err(error) = notify::send(&self.address, &text) else {
            return Ok(());
        };
        // An address that means nothing, and one that this kernel cannot dial, will not come to mean something; a vsock that does not answer would
        // hold up the loop each time.
        self.deaf = !notify::is_unix(&self.address)
            || matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            );
        if !std::mem::replace(&mut self.warned, true) {
            log.warn(format_args!(
                "cannot tell the service manager at NOTIFY_SOCKET={}: {}",
                self.address.to_string_lossy(),
                reason(&error)
            ));
        }
        Err(notify::may_pass(&error))
    }
}
