//! The command line of `pf-accept`. The doc comments here are its help texts and its man page.

use std::ffi::OsString;
use std::time::Duration;

use clap::Parser;

use crate::cmd::values::{Off, count_or_off, duration, time_or_off};

/// The name of the program in its messages.
pub(super) const PROGRAM: &str = "pf-accept";

/// Runs HANDLER once for each connection
///
/// Accepts on every inherited listener (LISTEN_FDS), TCP, Unix or vsock, and runs HANDLER once for
/// each connection. HANDLER has the connection as its standard input and output, and the
/// environment variables of tcpserver (PROTO, TCPREMOTEIP, ...).
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    override_usage = "pf-accept [OPTIONS] -- HANDLER [ARG]...",
    after_long_help = AFTER_HELP,
)]
pub(super) struct Args {
    /// At most N handlers at once; while N run, no connection is accepted
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_clients: u32,

    /// Of all workers with this option, only one at a time waits for a connection
    ///
    /// They share a lock (fcntl) on the first listener itself, which needs no file. Without this
    /// option the kernel wakes one of the waiting workers, in turn.
    #[arg(long)]
    pub(super) serialize: bool,

    /// Finish after N connections, and exit 0
    #[arg(long, value_name = "N", default_value = "off", value_parser = count_or_off)]
    pub(super) max_requests: Off<u32>,

    /// End a handler after D: TERM to its process group, 1s later KILL
    #[arg(long, value_name = "D", default_value = "off", value_parser = time_or_off)]
    pub(super) client_timeout: Off<Duration>,

    /// Exit 0 after D without a connection
    #[arg(long, value_name = "D", default_value = "off", value_parser = time_or_off)]
    pub(super) idle_timeout: Off<Duration>,

    /// After TERM or QUIT: how long running handlers may continue
    ///
    /// Then they are ended as by --client-timeout, and the exit code is 1.
    #[arg(long, value_name = "D", default_value = "25s", value_parser = duration)]
    pub(super) drain_timeout: Duration,

    /// Print each connection on stderr
    #[arg(short, long, conflicts_with = "quiet")]
    pub(super) verbose: bool,

    /// Print only errors on stderr
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// The program to run for each connection, and its arguments
    #[arg(last = true, required = true, value_name = "HANDLER")]
    pub(super) handler: Vec<OsString>,
}

const AFTER_HELP: &str = "\
SIGNALS
  TERM, QUIT, HUP  accept no more, let the running handlers finish, exit
  INT              end the handlers now; a second TERM, QUIT or HUP does the same
                   (the same signal within a second counts once)

EXIT STATUS
  0 stopped by a signal, --max-requests or --idle-timeout; 1 handlers had to be ended at
  --drain-timeout; 2 wrong usage; 111 no listener, or could not set up; 126 HANDLER cannot be
  executed; 127 HANDLER not found.

EXAMPLES
  pf-listen 127.0.0.1:8080 -- pf-accept -c 8 -- cat
  pf-listen :79 -- pf-master -n 4 --pid /run/app.pid -- pf-accept -c 50 -- ./finger.sh";
