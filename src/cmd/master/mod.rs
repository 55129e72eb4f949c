//! `pf-master`: from a command line, or from a running master, to the service that
//! [`driver`](crate::driver) runs.
//!
//! In reading order:
//!
//! - `cli`: the options (help, man page);
//! - `start`: runs a service to its end, and turns the end into an exit code;
//! - `daemonize`: `--daemonize`, detaches first and reports the outcome to the caller;
//! - `setup`: everything before the first worker: listeners, recipe, control socket, pid file; and
//!   `--check`;
//! - `claim`: takes the control socket and the pid file, which tell the world of this master;
//! - `recipe`: from the options to what generations are pinned from;
//! - `successor`: this program as the new image of a running master (upgrade in place), and
//!   `takeover`: its service, made from the state of the old image;
//! - `beside`: this program as a new master beside the old one (`upgrade --fork`).
//!
//! One start: `main` looks for the variables of an upgrade in the environment. Without them it
//! installs the signal handlers, parses the options, and calls `daemonize::start` or
//! `start::serve`. `setup::prepare` makes the value that `driver::run` takes.

mod beside;
mod claim;
mod cli;
mod daemonize;
mod recipe;
mod setup;
mod start;
mod successor;
mod takeover;

use std::process::ExitCode;

use clap::CommandFactory;

use super::program;
use crate::error::{Error, Exit, Result};
use crate::sys::machine::memory;
use crate::sys::signal::Signals;
use cli::{Args, PROGRAM};

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs `pf-master`.
pub fn main() -> ExitCode {
    // Before anything large is freed.
    memory::give_large_blocks_back();
    if let Some(exit) = successor::main().or_else(beside::main) {
        return exit;
    }
    // First of all: without handlers, a signal for the master would end it by its default action.
    let signals = Signals::install();
    match program::arguments::<Args>() {
        Ok(args) => program::run(PROGRAM, || {
            let signals =
                signals.map_err(|error| Error::system("cannot install signal handlers", error))?;
            master(args, signals)
        }),
        Err(exit) => exit,
    }
}

fn master(args: Args, signals: Signals) -> Result<Exit> {
    if args.check {
        setup::check(&args)?;
        return Ok(Exit::Done);
    }
    if args.daemonize {
        return daemonize::start(args, signals);
    }
    start::serve(args, signals, std::process::id(), None)
}
