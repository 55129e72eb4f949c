//! A holder that runs, and what its COMMAND says.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::running::{Running, pf_listen};
use crate::common::service::scene_processes::children;
use crate::common::service::{process, until};

/// `pf-listen --hold 127.0.0.1:0 -- sh -c SCRIPT`.
pub(crate) fn held(script: &str) -> Command {
    with(&[], script)
}

/// The same with more options.
pub(crate) fn with(options: &[&str], script: &str) -> Command {
    let mut command = Command::new(pf_listen());
    command.args(["--hold", "127.0.0.1:0"]).args(options);
    command.args(["--", "bash", "-c", script]);
    command
}

/// The pid of what was started.
pub(crate) fn pid(running: &Running) -> i32 {
    i32::try_from(running.pid()).expect("a pid")
}

/// The COMMAND that runs now.
#[track_caller]
pub(crate) fn child(running: &Running) -> i32 {
    until("there is a COMMAND", || {
        children(pid(running)).first().copied()
    })
}

/// Sends a signal to the holder.
pub(crate) fn signal(running: &Running, signal: Signal) {
    process::signal(pid(running), signal);
}

/// Waits until a process is, or is no longer, stopped.
#[track_caller]
pub(crate) fn stopped(pid: i32, wanted: bool) {
    until("it is stopped, or goes on", || {
        let is = process::status(pid, "State").starts_with('T');
        (is == wanted).then_some(())
    });
}
