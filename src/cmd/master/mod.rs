//! `pf-master`: forks and supervises workers.

mod beside;
mod cli;
mod daemonize;
mod setup;
mod successor;
mod takeover;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::driver;
use crate::error::{Error, Exit, Result};
use crate::sys::process::daemon::Launcher;
use crate::sys::signal::Signals;

/// How the program calls itself.
const PROG: &str = "pf-master";

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    cli::Args::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    if let Some(exit) = successor::main().or_else(beside::main) {
        return exit;
    }
    // Before anything else: from here on no signal of the table can end the master by its default action.
    let signals = Signals::install();
    match super::arguments::<cli::Args>() {
        Ok(args) => super::run(PROG, || {
            let signals =
                signals.map_err(|error| Error::system("cannot install signal handlers", error))?;
            master(args, signals)
        }),
        Err(exit) => exit,
    }
}

fn master(args: cli::Args, signals: Signals) -> Result<Exit> {
    if args.check {
        setup::check(&args)?;
        return Ok(Exit::Done);
    }
    if args.daemonize {
        return daemonize::start(args, signals);
    }
    serve(args, signals, std::process::id(), None)
}

/// Runs the service to its end. `born`: the pid that our parent knows us by; `launcher`: who waits for the service to be up.
fn serve(args: cli::Args, signals: Signals, born: u32, launcher: Option<Launcher>) -> Result<Exit> {
    ended(driver::run(setup::prepare(
        args, signals, born, launcher, None,
    )?)?)
}

fn ended(end: driver::End) -> Result<Exit> {
    match end.reason {
        Some(reason) => Err(Error::new(Exit::Failed, reason, "")),
        None if end.code == 0 => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}
