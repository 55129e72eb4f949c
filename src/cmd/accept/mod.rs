//! `pf-accept`: makes a worker of any filter, which it runs once a connection.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::values::{Off, count_or_off, duration, time_or_off};
use super::{arguments, run};
use crate::error::{Error, Exit, Result};
use crate::sys::signal::Signals;

mod handlers;
mod manager;
mod serve;
mod setup;

/// How the program calls itself.
const PROG: &str = "pf-accept";

/// Runs HANDLER once for each connection
///
/// Accepts on every inherited listener (LISTEN_FDS), TCP, Unix or vsock, and runs HANDLER once for each connection, with the connection as its
/// standard input and output and with the environment that tcpserver gives (PROTO, TCPREMOTEIP, ...).
#[derive(Debug, Parser)]
#[command(
    name = PROG,
    version,
    override_usage = "pf-accept [OPTIONS] -- HANDLER [ARG]...",
    after_long_help = AFTER_HELP,
)]
struct Args {
    /// Handlers at once; while so many run, nothing is accepted
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    max_clients: u32,

    /// Of all workers that say so, only one at a time waits for a connection
    ///
    /// They share a lock (fcntl) on the first listener itself, which needs no file. Without it the kernel wakes one of those that wait, in turn.
    #[arg(long)]
    serialize: bool,

    /// Finish, and exit 0, after N connections
    #[arg(long, value_name = "N", default_value = "off", value_parser = count_or_off)]
    max_requests: Off<u32>,

    /// End a handler after D: TERM to its process group, 1s later KILL
    #[arg(long, value_name = "D", default_value = "off", value_parser = time_or_off)]
    client_timeout: Off<Duration>,

    /// Exit 0 after D without a connection
    #[arg(long, value_name = "D", default_value = "off", value_parser = time_or_off)]
    idle_timeout: Off<Duration>,

    /// After TERM or QUIT: how long running handlers may go on
    ///
    /// Those that have not finished by then are ended as by --client-timeout, and the exit code is 1.
    #[arg(long, value_name = "D", default_value = "25s", value_parser = duration)]
    drain_timeout: Duration,

    /// Tell of each connection on stderr
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,

    /// Only errors on stderr
    #[arg(short, long)]
    quiet: bool,

    /// The program to run for each connection, and its arguments
    #[arg(last = true, required = true, value_name = "HANDLER")]
    handler: Vec<OsString>,
}

const AFTER_HELP: &str = "\
SIGNALS
  TERM, QUIT, HUP  accept no more, let the handlers that run finish, exit
  INT              end the handlers now; also a second one of those above
                   (the same one within a second counts once)

EXIT STATUS
  0 after an end that was asked for, --max-requests or --idle-timeout; 1 handlers had to be
  ended at --drain-timeout; 2 wrong usage; 111 no listener, or could not set up; 126 HANDLER
  cannot be executed; 127 HANDLER not found.

EXAMPLES
  pf-listen 127.0.0.1:8080 -- pf-accept -c 8 -- cat
  pf-listen :79 -- pf-master -n 4 --pid /run/app.pid -- pf-accept -c 50 -- ./finger.sh";

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    // Before anything else: from here on a word to finish does not end us by its default action.
    let signals = Signals::install();
    match arguments::<Args>() {
        Ok(args) => run(PROG, || accept(&args, signals)),
        Err(exit) => exit,
    }
}

fn accept(args: &Args, signals: std::io::Result<Signals>) -> Result<Exit> {
    let signals =
        signals.map_err(|error| Error::system("cannot install signal handlers", error))?;
    serve::serve(setup::prepare(args, signals)?)
}
