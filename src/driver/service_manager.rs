//! The line to the service manager: says what the model decides, and never waits for anybody to hear it.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::model::Supervisor;
use crate::model::service_manager::{Reported, ServiceNotice, ServiceNotifier};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::sys::notify;
use crate::wire::handover;
use crate::wire::service_manager::{render, watchdog_usec};

/// What the environment tells of a service manager above us. The variables stay where they are: an image that is executed in this one's
/// place finds them again.
#[derive(Debug)]
pub struct Upward {
    launch_pid: u32,
    address: OsString,
    notifier: ServiceNotifier,
    /// That it cannot be told was told.
    warned: bool,
    /// It never will be.
    deaf: bool,
}

impl Upward {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which `lookup` finds; None: nobody listens. `launch_pid`: the pid that our parent started, which is another
    /// than ours if we have detached since. `said`: what was said before an exec.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<OsString>,
        launch_pid: u32,
        said: Reported,
    ) -> Option<Upward> {
        let address = lookup("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let text = |name| lookup(name).map(|value| value.to_string_lossy().into_owned());
        let (usec, of) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        let limit = watchdog_usec(usec.as_deref(), of.as_deref(), launch_pid);
        let notifier = ServiceNotifier::new(
            std::process::id(),
            limit.map(Duration::from_micros),
            said,
            clock::now(),
        );
        Some(Upward {
            launch_pid,
            address,
            notifier,
            warned: false,
            deaf: false,
        })
    }

    /// For the image that is executed in our place.
    pub fn handed_over(&self) -> handover::Upward {
        handover::Upward {
            born: self.launch_pid,
            said: self.notifier.reported().clone(),
        }
    }

    /// A reload begins. To be told before it may fail.
    pub fn reload_begins(&mut self) {
        self.notifier.reload_begins(clock::now());
    }

    /// The process `pid` is the service from now on, and this one says no more.
    pub fn hand_over(&mut self, pid: u32, log: &Log) {
        let message = self.notifier.hand_over(pid);
        // Whoever comes says it again by itself.
        let _ = self.send(&message, log);
    }

    /// Everything is to be said again: this process was not listened to so far, or is the service once more.
    pub fn say_again(&mut self) {
        self.notifier.report_all_again();
    }

    /// When to [`speak`](Self::speak) though nothing happened.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.notifier.deadline().filter(|_| !self.deaf)
    }

    /// Says what there is to say.
    pub(super) fn speak(&mut self, supervisor: &Supervisor, log: &Log) {
        if self.deaf {
            return;
        }
        let (now, summary) = (clock::now(), supervisor.service_summary());
        while let Some(message) = self.notifier.next_message(now, &summary) {
            match self.send(&message, log) {
                Ok(()) => self.notifier.message_sent(),
                Err(again) => return self.notifier.message_failed(now, again),
            }
        }
    }

    /// The error: whether it may be tried again.
    fn send(&mut self, message: &[ServiceNotice], log: &Log) -> Result<(), bool> {
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
        Err(notify::is_transient(&error))
    }
}
