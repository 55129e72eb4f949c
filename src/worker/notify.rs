//! What a worker says to its master, or to any service manager: systemd's notification protocol, sd_notify(3).
//!
//! ```no_run
//! # fn main() -> prefork::error::Result<()> {
//! use prefork::notify;
//! notify::status("warming up")?;
//! notify::ready()?; // from now on it may be relied on
//! notify::stopping()?; // from now on it accepts no more
//! # Ok(())
//! # }
//! ```
//!
//! Each call sends one datagram to the address in `NOTIFY_SOCKET`: a path, an abstract name behind an `@`, or a vsock address. Without the variable
//! it does nothing and returns `false`: nobody wants to know. A manager that does not read is waited for, five seconds at most.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::machine::clock;
use crate::sys::notify;
use crate::wire::notify::MAX_STATUS;

/// Where the manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a manager that does not read is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says `text`: lines of `KEY=VALUE`. Whether there is somebody to say it to.
///
/// # Errors
/// The manager cannot be reached, or does not read.
pub fn say(text: &str) -> Result<bool> {
    let Some(address) = std::env::var_os(VARIABLE).filter(|address| !address.is_empty()) else {
        return Ok(false);
    };
    notify::send_within(&address, text, PATIENCE).map_err(|error| {
        let at = address.to_string_lossy();
        Error::system(
            format!("cannot say '{}' to {at}", text.escape_debug()),
            error,
        )
    })?;
    Ok(true)
}

/// `READY=1`: it serves; also, that it has loaded its configuration again.
///
/// # Errors
/// As [`say`].
pub fn ready() -> Result<bool> {
    say("READY=1")
}

/// `STOPPING=1`: it accepts no more.
///
/// # Errors
/// As [`say`].
pub fn stopping() -> Result<bool> {
    say("STOPPING=1")
}

/// `RELOADING=1` with the time: it is busy with itself, until it says [`ready`] again.
///
/// # Errors
/// As [`say`].
pub fn reloading() -> Result<bool> {
    say(&format!(
        "RELOADING=1\nMONOTONIC_USEC={}",
        clock::now().0 / 1000
    ))
}

/// `STATUS=`: one line for people, which `pf-status` shows. Line breaks become blanks; of one longer than 4096 bytes the beginning is sent.
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

/// `WATCHDOG=1`: it lives. [`Heartbeat`](super::heartbeat::Heartbeat) says so without a system call.
///
/// # Errors
/// As [`say`].
pub fn watchdog() -> Result<bool> {
    say("WATCHDOG=1")
}

/// `WATCHDOG=trigger`: treat it as if it had missed its heartbeat.
///
/// # Errors
/// As [`say`].
pub fn watchdog_trigger() -> Result<bool> {
    say("WATCHDOG=trigger")
}

/// `WATCHDOG_USEC=`: how long its silence is to be borne from now on.
///
/// # Errors
/// As [`say`].
pub fn watchdog_timeout(timeout: Duration) -> Result<bool> {
    say(&format!("WATCHDOG_USEC={}", timeout.as_micros()))
}

/// `EXTEND_TIMEOUT_USEC=`: it needs so long from now, whatever it is doing: starting, stopping, or a long request.
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
