//! Whoever started us and watches: is told that we are ready, live, and stop, and what we have counted.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Result, reason};
use crate::log::Log;
use crate::sys::{fd, notify, page};
use crate::wire::beat::{BEATS, BEGUN, FINISHED, OPEN};
use crate::wire::upward::watchdog;

/// What the environment tells of it.
#[derive(Debug)]
pub(super) struct Manager {
    address: Option<OsString>,
    page: Option<&'static page::Numbers>,
    every: Option<Duration>,
}

impl Manager {
    /// From NOTIFY_SOCKET, PF_HEARTBEAT_FD, WATCHDOG_USEC and WATCHDOG_PID, which `lookup` finds.
    ///
    /// # Errors
    /// None: a page that is not there is a warning.
    pub(super) fn from_environment(
        lookup: impl Fn(&str) -> Option<OsString>,
        log: &Log,
    ) -> Result<Manager> {
        let text = |name| lookup(name).map(|value| value.to_string_lossy().into_owned());
        let (usec, of) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        let limit = watchdog(usec.as_deref(), of.as_deref(), std::process::id());
        let page = text("PF_HEARTBEAT_FD").and_then(|number| {
            let mapped = number
                .parse()
                .map_err(|_| "not a number".to_owned())
                .and_then(|number| fd::adopt(number).map_err(|error| error.to_string()))
                .and_then(|file| page::map(file).map_err(reason));
            mapped
                .map_err(|why| log.warn(format_args!("PF_HEARTBEAT_FD={number} is ignored: {why}")))
                .ok()
        });
        let address = lookup("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let somebody = page.is_some() || address.is_some();
        Ok(Manager {
            page,
            every: limit
                .filter(|_| somebody)
                .map(|limit| Duration::from_micros(limit) / 2),
            address,
        })
    }

    /// How often it wants to see that we live.
    pub(super) fn beat_every(&self) -> Option<Duration> {
        self.every
    }

    /// Says something to it.
    pub(super) fn say(&self, text: &str, log: &Log) {
        let Some(address) = &self.address else {
            return;
        };
        if let Err(error) = notify::send(address, text) {
            log.warn(format_args!(
                "cannot tell NOTIFY_SOCKET={}: {}",
                address.to_string_lossy(),
                reason(error)
            ));
        }
    }

    /// We live: one store if there is a page, else one message.
    pub(super) fn beat(&self, log: &Log) {
        if self.page.is_some() {
            self.raise(BEATS, 1);
        } else {
            self.say("WATCHDOG=1", log);
        }
    }

    /// A connection was taken.
    pub(super) fn begun(&self) {
        self.raise(BEATS, 1);
        self.raise(BEGUN, 1);
        self.raise(OPEN, 1);
    }

    /// A handler has ended.
    pub(super) fn finished(&self) {
        self.raise(BEATS, 1);
        self.raise(FINISHED, 1);
        // Down by one.
        self.raise(OPEN, u64::MAX);
    }

    fn raise(&self, offset: usize, by: u64) {
        let number = self
            .page
            .and_then(|page| page.get(offset / size_of::<AtomicU64>()));
        if let Some(number) = number {
            number.fetch_add(by, Ordering::Relaxed);
        }
    }
}
