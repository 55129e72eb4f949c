//! The connection to the service manager above the master: sends what the model decides, and never
//! waits for the service manager.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::model::Supervisor;
use crate::model::machines::service_manager::{Reported, ServiceNotice, ServiceNotifier};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::sys::notify;
use crate::wire::handover;
use crate::wire::service_manager::{render, watchdog_usec};

/// The service manager that the environment names. The variables stay in the environment: the image
/// that an upgrade executes finds them again.
#[derive(Debug)]
pub struct ServiceManager {
    launch_pid: u32,
    address: OsString,
    decider: ServiceNotifier,
    /// That it cannot be reached was logged.
    is_logged: bool,
    /// It can never be reached.
    unreachable: bool,
}

impl ServiceManager {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which `lookup` finds; None: there is no
    /// service manager. `launch_pid`: the pid that our parent started, which is not ours if we have
    /// detached since. `reported`: what was sent before an exec.
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<OsString>,
        launch_pid: u32,
        reported: Reported,
    ) -> Option<ServiceManager> {
        let address = lookup("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let text = |name| lookup(name).map(|value| value.to_string_lossy().into_owned());
        let (usec, of) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        let limit = watchdog_usec(usec.as_deref(), of.as_deref(), launch_pid);
        let decider = ServiceNotifier::new(
            std::process::id(),
            limit.map(Duration::from_micros),
            reported,
            clock::now(),
        );
        Some(ServiceManager {
            launch_pid,
            address,
            decider,
            is_logged: false,
            unreachable: false,
        })
    }

    /// For the image that is executed in our place.
    pub fn handed_over(&self) -> handover::ServiceManager {
        handover::ServiceManager {
            launch_pid: self.launch_pid,
            reported: self.decider.reported().into(),
        }
    }

    /// A reload begins. To be called before the reload can fail.
    pub fn reload_begins(&mut self) {
        self.decider.reload_begins(clock::now());
    }

    /// The process `pid` is the service from now on, and this one sends no more.
    pub fn hand_over(&mut self, pid: u32, log: &Log) {
        let message = self.decider.hand_over(pid);
        // A failure costs nothing: the new master sends all of it again.
        let _ = self.send(&message, log);
    }

    /// Everything is to be sent again: the service manager did not listen to this process so far,
    /// or this process is the service once more.
    pub fn say_again(&mut self) {
        self.decider.report_all_again();
    }

    /// When to call [`report`](Self::report) though nothing happened.
    pub(in crate::driver) fn deadline(&self) -> Option<Time> {
        self.decider.deadline().filter(|_| !self.unreachable)
    }

    /// Sends what has changed.
    pub(in crate::driver) fn report(&mut self, supervisor: &Supervisor, log: &Log) {
        if self.unreachable {
            return;
        }
        let (now, facts) = (clock::now(), supervisor.service_summary());
        while let Some(message) = self.decider.next_message(now, &facts) {
            match self.send(&message, log) {
                Ok(()) => self.decider.message_sent(),
                Err(again) => return self.decider.message_failed(now, again),
            }
        }
    }

    /// The error: whether to try again.
    fn send(&mut self, message: &[ServiceNotice], log: &Log) -> Result<(), bool> {
        let text = render(message);
        log.debug(format_args!(
            "service manager told: {}",
            text.replace('\n', " ")
        ));
        let Err(error) = notify::send(&self.address, &text) else {
            return Ok(());
        };
        // An address that is malformed or that this kernel cannot dial stays so. A vsock address
        // that does not answer would block the loop each time.
        self.unreachable = !notify::is_unix(&self.address)
            || matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            );
        if !std::mem::replace(&mut self.is_logged, true) {
            log.warn(format_args!(
                "cannot tell the service manager at NOTIFY_SOCKET={}: {}",
                self.address.to_string_lossy(),
                reason(&error)
            ));
        }
        Err(notify::is_transient(&error))
    }
}
