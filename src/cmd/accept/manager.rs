//! Whoever started us and watches: is told that we are ready, live, and stop, and what we have counted.

use std::ffi::OsString;
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::sys::notify;
use crate::worker::heartbeat::{Heartbeat, OpenConnection, Request};

/// How long a manager that does not read is waited for, where it has to know.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the environment tells of it.
#[derive(Debug)]
pub(super) struct Manager {
    address: Option<OsString>,
    heartbeat: Heartbeat,
}

/// A connection and its handler in the manager's books, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    _open: OpenConnection,
    _request: Request,
}

impl Manager {
    /// From NOTIFY_SOCKET, PF_HEARTBEAT_FD, WATCHDOG_USEC and WATCHDOG_PID. A page that is none is a warning.
    pub(super) fn from_environment(log: &Log) -> Manager {
        let heartbeat = Heartbeat::inherit().unwrap_or_else(|error| {
            log.warn(error);
            Heartbeat::none()
        });
        Manager {
            address: std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            heartbeat,
        }
    }

    /// How often it wants to see that we live.
    pub(super) fn beat_every(&self) -> Option<Duration> {
        let somebody = self.heartbeat.is_active() || self.address.is_some();
        self.heartbeat.interval().filter(|_| somebody)
    }

    /// Says something to it that it has to know.
    pub(super) fn say(&self, text: &str, log: &Log) {
        if let Some(address) = &self.address {
            told(
                notify::send_within(address, text, PATIENCE),
                "tell NOTIFY_SOCKET",
                log,
            );
        }
    }

    /// We live: one store if there is a page, else one message.
    pub(super) fn beat(&self, log: &Log) {
        match &self.address {
            Some(address) if !self.heartbeat.is_active() && self.beat_every().is_some() => {
                told(notify::send(address, "WATCHDOG=1"), "send WATCHDOG=1", log);
            }
            _ => self.heartbeat.beat(),
        }
    }

    /// A connection was taken.
    pub(super) fn count(&self) -> Counted {
        Counted {
            _open: self.heartbeat.connection(),
            _request: self.heartbeat.request(),
        }
    }
}

fn told(said: std::io::Result<()>, what: &str, log: &Log) {
    if let Err(error) = said {
        log.warn(format_args!("cannot {what}: {}", reason(error)));
    }
}
