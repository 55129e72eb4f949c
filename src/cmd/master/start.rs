//! Runs a service to its end, and turns the end into an exit code.

use super::cli::Args;
use super::setup;
use crate::driver;
use crate::error::{Error, Exit, Result};
use crate::sys::process::daemon::Launcher;
use crate::sys::signal::Signals;

/// Runs the service to its end. `launch_pid`: the pid that the parent process knows this one by;
/// `launcher`: the caller of `--daemonize`, which waits until the service is up.
pub(super) fn serve(
    args: Args,
    signals: Signals,
    launch_pid: u32,
    launcher: Option<Launcher>,
) -> Result<Exit> {
    exit_of(driver::run(setup::prepare(
        args, signals, launch_pid, launcher, None,
    )?)?)
}

/// The exit code of a service that has ended.
pub(super) fn exit_of(end: driver::End) -> Result<Exit> {
    match end.reason {
        Some(reason) => Err(Error::new(Exit::Failed, reason, "")),
        None if end.code == 0 => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}
