//! This program as a new master beside an old one, which has begotten it (U16).

use std::os::fd::RawFd;
use std::process::ExitCode;

use clap::Parser;

use super::cli::Args;
use super::{PROG, ended, setup, successor};
use crate::cmd::run;
use crate::driver::fork::InheritedFork;
use crate::driver::{self, Setup};
use crate::error::{Error, Exit, Result};
use crate::sys::process::image;
use crate::sys::signal::Signals;
use crate::wire::peer::LINK_FD;

/// Whether this start is one of an upgrade by fork; None if it is none.
pub(super) fn main() -> Option<ExitCode> {
    let line = image::descriptor_in(LINK_FD)?;
    match Args::try_parse() {
        // What such a wrapper as `--reexec` names may ask before it becomes the new master.
        Ok(args) if args.check => return None,
        Err(asked) if asked.exit_code() == 0 => return None,
        _ => {}
    }
    Some(run(PROG, || start(line)))
}

fn start(line: RawFd) -> Result<Exit> {
    let signals = Signals::install();
    let mut inherited = InheritedFork::take(line)?;
    let setup = signals
        .map_err(|error| Error::system("cannot install signal handlers", error))
        .and_then(|signals| prepare(signals, &inherited));
    match setup {
        Ok(setup) => ended(driver::run(Setup {
            inherited: Some(inherited),
            ..setup
        })?),
        Err(error) => {
            inherited.refuse(&error);
            Err(error)
        }
    }
}

/// It is detached already, if it is to be (`--daemonize`): as the one that has begotten it.
fn prepare(signals: Signals, inherited: &InheritedFork) -> Result<Setup> {
    let args = successor::arguments()?;
    setup::prepare(args, signals, std::process::id(), None, Some(inherited))
}
