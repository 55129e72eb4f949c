//! The manager: the master or service manager that started this worker. It gets readiness, the
//! heartbeat, `STOPPING=1` and the counters.

use std::ffi::OsString;
use std::time::Duration;

use crate::error::reason;
use crate::log::Log;
use crate::sys::notify;
use crate::worker::heartbeat::{Heartbeat, OpenConnection, Request};

/// How long to wait for a manager that does not read, where the message must arrive.
const SEND_WITHIN: Duration = Duration::from_secs(1);

/// How the environment says that the manager is reached.
#[derive(Debug)]
pub(super) struct Manager {
    address: Option<OsString>,
    heartbeat: Heartbeat,
}

/// Counts a connection and a request as open for the manager, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    _open: OpenConnection,
    _request: Request,
}

impl Manager {
    /// Reads NOTIFY_SOCKET, PF_HEARTBEAT_FD, WATCHDOG_USEC and WATCHDOG_PID. An fd that is no
    /// heartbeat page is a warning.
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

    /// How often to beat. `None`: the manager wants no heartbeat.
    pub(super) fn beat_interval(&self) -> Option<Duration> {
        let has_channel = self.heartbeat.is_active() || self.address.is_some();
        self.heartbeat.interval().filter(|_| has_channel)
    }

    /// Sends a notification that must arrive.
    pub(super) fn notify(&self, text: &str, log: &Log) {
        if let Some(address) = &self.address {
            warn_on_failure(
                notify::send_within(address, text, SEND_WITHIN),
                "send to NOTIFY_SOCKET",
                log,
            );
        }
    }

    /// Beats: a store into the heartbeat page, or without a page one message.
    pub(super) fn beat(&self, log: &Log) {
        match &self.address {
            Some(address) if !self.heartbeat.is_active() && self.beat_interval().is_some() => {
                let sent = notify::send(address, "WATCHDOG=1");
                warn_on_failure(sent, "send WATCHDOG=1", log);
            }
            _ => self.heartbeat.beat(),
        }
    }

    /// Counts a connection that was accepted.
    pub(super) fn count(&self) -> Counted {
        Counted {
            _open: self.heartbeat.connection(),
            _request: self.heartbeat.request(),
        }
    }
}

fn warn_on_failure(sent: std::io::Result<()>, what: &str, log: &Log) {
    if let Err(error) = sent {
        log.warn(format_args!("cannot {what}: {}", reason(error)));
    }
}
