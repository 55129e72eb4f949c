//! This program as a new master beside the old master that forked it (`upgrade --fork`, U16).

use std::os::fd::RawFd;
use std::process::ExitCode;

use clap::Parser;

use super::cli::{Args, PROGRAM};
use super::start::exit_of;
use super::{setup, successor};
use crate::cmd::program::run;
use crate::driver::fork::InheritedFork;
use crate::driver::{self, Setup};
use crate::error::{Error, Exit, Result};
use crate::sys::process::image;
use crate::sys::signal::Signals;
use crate::wire::peer::LINK_FD;

/// Runs the new master of an upgrade by fork. `None`: this start is none.
pub(super) fn main() -> Option<ExitCode> {
    let line = image::descriptor_in(LINK_FD)?;
    image::keep_name();
    match Args::try_parse() {
        // A wrapper script of `--reexec` may call `--check`, `--help` or `--version` before it
        // becomes the new master.
        Ok(args) if args.check => return None,
        Err(asked) if asked.exit_code() == 0 => return None,
        _ => {}
    }
    Some(run(PROGRAM, || start(line)))
}

fn start(line: RawFd) -> Result<Exit> {
    let signals = Signals::install();
    let mut inherited = InheritedFork::take(line)?;
    let setup = signals
        .map_err(|error| Error::system("cannot install signal handlers", error))
        .and_then(|signals| prepare(signals, &inherited));
    match setup {
        Ok(setup) => exit_of(driver::run(Setup {
            inherited: Some(inherited),
            ..setup
        })?),
        Err(error) => {
            inherited.refuse(&error);
            Err(error)
        }
    }
}

/// There is no `launcher`: with `--daemonize` the old master has detached, and so has this child.
fn prepare(signals: Signals, inherited: &InheritedFork) -> Result<Setup> {
    let args = successor::arguments()?;
    setup::prepare(args, signals, std::process::id(), None, Some(inherited))
}
