//! `pf-accept`: a worker that runs a program, the handler, once for each connection.
//!
//! In reading order:
//!
//! - `cli`: the options (help, man page);
//! - `setup`: everything before the first connection: listeners, handler program, limits;
//! - `serve`: the loop around [`Acceptor`](crate::model::machines::acceptor::Acceptor), which
//!   decides;
//! - `handlers`: the handler processes and their process groups: start, signal, reap;
//! - `manager`: the process that watches this worker: readiness, heartbeat, counters.
//!
//! One connection: the loop waits at the listeners, accepts the connection and counts it at the
//! manager. `Handlers::start` starts a handler on it. When the handler exits, its slot is free
//! again, and what it left in its process group is watched until the group is empty.

mod cli;
mod handlers;
mod manager;
mod serve;
mod setup;

use std::process::ExitCode;

use clap::CommandFactory;

use super::program::{arguments, run};
use crate::error::{Error, Exit, Result};
use crate::sys::signal::Signals;
use cli::{Args, PROGRAM};

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs `pf-accept`.
pub fn main() -> ExitCode {
    // First of all: without handlers, TERM would end this process by its default action.
    let signals = Signals::install();
    match arguments::<Args>() {
        Ok(args) => run(PROGRAM, || accept(&args, signals)),
        Err(exit) => exit,
    }
}

fn accept(args: &Args, signals: std::io::Result<Signals>) -> Result<Exit> {
    let signals =
        signals.map_err(|error| Error::system("cannot install signal handlers", error))?;
    serve::serve(setup::prepare(args, signals)?)
}
