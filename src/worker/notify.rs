//! Notifications of a worker to its master or service manager: systemd's protocol, sd_notify(3).
//!
//! ```no_run
//! # fn main() -> prefork::error::Result<()> {
//! use prefork::notify;
//! notify::status("warming up")?;
//! notify::ready()?; // from now on it serves
//! notify::stopping()?; // from now on it accepts no more
//! # Ok(())
//! # }
//! ```
//!
//! Each call sends one datagram to the address in `NOTIFY_SOCKET`: a path, an abstract name after
//! an `@`, or a vsock address. Without the variable there is no manager: the call does nothing and
//! returns `false`. If the manager does not read, the call waits for it, five seconds at most.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::machine::clock;
use crate::sys::notify;
use crate::wire::notify::MAX_STATUS;

/// The variable with the manager's address.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long to wait for a manager that does not read.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Sends `text`: lines of `KEY=VALUE`. False: there is no manager.
///
/// # Errors
/// The manager cannot be reached, or does not read.
pub fn say(text: &str) -> Result<bool> {
    let Some(address) = std::env::var_os(VARIABLE).filter(|address| !address.is_empty()) else {
        return Ok(false);
    };
    notify::send_within(&address, text, SEND_WITHIN).map_err(|error| {
        let at = address.to_string_lossy();
        Error::system(
            format!("cannot send '{}' to {at}", text.escape_debug()),
            error,
        )
    })?;
    Ok(true)
}

/// `READY=1`: the worker serves; or, after [`reloading`], it has reloaded its configuration.
///
/// # Errors
/// As [`say`].
pub fn ready() -> Result<bool> {
    say("READY=1")
}

/// `STOPPING=1`: the worker accepts no more.
///
/// # Errors
/// As [`say`].
pub fn stopping() -> Result<bool> {
    say("STOPPING=1")
}

/// `RELOADING=1` with the time: the worker reloads its configuration, until it sends [`ready`]
/// again.
///
/// # Errors
/// As [`say`].
pub fn reloading() -> Result<bool> {
    say(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}",
        clock::now().0 / 1000
    ))
}

/// `STATUS=`: one line of text, which `pf-status` shows. Line breaks become spaces. Only the first
/// 4096 bytes are sent.
///
/// # Errors
/// As [`say`].
pub fn status(text: &str) -> Result<bool> {
    let mut end = text.len().min(MAX_STATUS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    say(&format!("STATUS={}", text.replace(['\n', '\r'], " ")))
}

/// `WATCHDOG=1`: a heartbeat. [`Heartbeat`](super::heartbeat::Heartbeat) does this without a system
/// call.
///
/// # Errors
/// As [`say`].
pub fn watchdog() -> Result<bool> {
    say("WATCHDOG=1")
}

/// `WATCHDOG=trigger`: the manager treats the worker as if it had missed its heartbeat.
///
/// # Errors
/// As [`say`].
pub fn watchdog_trigger() -> Result<bool> {
    say("WATCHDOG=trigger")
}

/// `WATCHDOG_USEC=`: the new heartbeat timeout.
///
/// # Errors
/// As [`say`].
pub fn watchdog_timeout(timeout: Duration) -> Result<bool> {
    say(&format!("WATCHDOG_USEC={}", timeout.as_micros()))
}

/// `EXTEND_TIMEOUT_USEC=`: the worker needs this much more time from now, for its start, its stop
/// or a long request.
///
/// # Errors
/// As [`say`].
pub fn extend_timeout(by: Duration) -> Result<bool> {
    say(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))
}

/// `MAINPID=`: the process that serves from now on.
///
/// # Errors
/// As [`say`].
pub fn main_pid(pid: u32) -> Result<bool> {
    say(&format!("MAINPID={pid}"))
}
