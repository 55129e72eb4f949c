//! The command line of `pf-status`. The doc comments here are its help text and its man page.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::cmd::values::time;

/// The name of the program in its messages.
pub(super) const PROG: &str = "pf-status";

const EXIT_CODES: &str = "\
Exit codes:
  0  all slots are ready, or the service is paused
  1  degraded, or not known: the master has no control socket or does not answer
  2  wrong usage
  3  not running
  4  no permission
  111  a system call failed: standard output cannot be written, for example
Of several targets, the highest code counts. With --why, the codes mean that slot: 0 if it is ready,
or the service is paused; a slot that was scaled away is 1, one that is not known is wrong usage.";

/// Shows what a master and its workers do
///
/// Prints a summary line, a table with a row for each slot, the listeners with their accept queues,
/// and the last rollout; of several targets, a line each. The exit code tells whether all is well,
/// so this can be a health check.
#[derive(Debug, Parser)]
#[command(name = PROG, version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Args {
    /// A master's pid file, or its control socket
    ///
    /// The control socket of a pid file is the same path with .pid replaced by .ctl, else with .ctl
    /// appended.
    #[arg(value_name = "TARGET", required = true)]
    pub(super) targets: Vec<PathBuf>,

    /// Print the status document of the control protocol, as JSON on one line
    ///
    /// It is what the master sent, with the fields that only a newer master knows. See pf-tools(7).
    /// Several targets have a line each, in their order; that of a target that does not answer is
    /// {"target":...,"error":...}.
    #[arg(long, group = "form")]
    pub(super) json: bool,

    /// Print metrics in the OpenMetrics text format
    ///
    /// Those of several targets have the label service. A target that does not answer has pf_up 0,
    /// and its exit code.
    #[arg(long, group = "form")]
    pub(super) metrics: bool,

    /// Show it again and again, every second or at this interval (5s, 500ms)
    ///
    /// On a terminal it is drawn in place, and what is not well has a colour, unless the variable
    /// NO_COLOR is set. Else an empty line is between two rounds. A master that is away, or being
    /// upgraded, is shown as such and asked again. It ends by a signal (Ctrl-C), or when stdout is
    /// closed.
    #[arg(
        long,
        value_name = "INTERVAL",
        group = "form",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1s",
        value_parser = time
    )]
    pub(super) watch: Option<Duration>,

    /// Tell why a slot is as it is: what happened there last, and when
    ///
    /// A line for each start and exit (with pid and generation, an exit with its cause), for what
    /// told a worker to finish, for each signal and the reason for it, and for each wait before the
    /// next start; oldest first. The last lines say how the slot is now. The exit code means this
    /// slot. With --json: the document of the control protocol, on one line.
    #[arg(long, value_name = "SLOT", conflicts_with_all = ["metrics", "watch"])]
    pub(super) why: Option<u32>,

    /// Present the content of this file to masters that were started with --control-token
    #[arg(long, value_name = "FILE")]
    pub(super) token: Option<PathBuf>,

    /// Print nothing; the exit code is the answer
    #[arg(short, long, group = "form")]
    pub(super) quiet: bool,

    /// How long each master may take to answer (30s, 250ms)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time)]
    pub(super) timeout: Duration,
}
