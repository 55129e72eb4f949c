//! The command line of `pf-ctl`. The doc comments here are its help texts and its man page.
//!
//! - this file: the verbs and their options;
//! - `request`: what each verb asks the master for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cmd::values::{Off, duration_or_off, protocols};
use crate::model::signal::Signal;
use crate::wire::exports::Protocol;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed; the old state stays (rolled back)
  2  wrong usage
  3  not running (no pid file, or a stale one, which is never signalled), or the master died \
meanwhile
  4  no permission
  5  not finished within --timeout; the operation goes on
  6  refused: another operation is under way, or it makes no sense now
  111  a system call failed: standard output cannot be written, for example

TARGET is the master's pid file or its control socket. Only the process that holds the lock on the \
pid file counts, never the number in the file. The control socket of a pid file is the same path \
with .pid replaced by .ctl (else .ctl appended).

A master without a control socket only takes signals: with --no-wait, reload sends HUP, stop sends \
QUIT (--now: INT), pause WINCH, reopen USR1, scale +N TTIN, scale -N TTOU.";

/// Controls a running pf-master.
///
/// Sends one request to a master and waits until it is done. The exit code tells how it ended. The
/// operation goes on in the master when pf-ctl is interrupted or its --timeout passes.
#[derive(Debug, Parser)]
#[command(
    name = crate::cmd::ctl::output::PROGRAM,
    version,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    override_usage = "pf-ctl VERB TARGET [OPERAND]... [OPTIONS] [-- COMMAND [ARG]...]",
    subcommand_help_heading = "Verbs"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Rolls the workers to a new generation: program and directory are looked up anew
    ///
    /// Waits until every slot has a new worker that is ready, and no old worker accepts any more.
    /// If the new workers fail, the old generation continues to serve and the exit code is 1.
    Reload(Reload),
    /// Replaces the master's own image and all workers
    ///
    /// The new program is checked first, then executed in the same process: its pid, the listeners,
    /// the workers and the waiting clients of the control socket stay. Then the workers are rolled
    /// to a new generation. If the new program or the new workers fail, the old ones continue to
    /// serve and the exit code is 1.
    Upgrade(Upgrade),
    /// Ends a running rollout, or rolls back to the release before
    ///
    /// That is the last other release that served and was not itself rolled away from: a second
    /// rollback goes further back, and none goes forward. Waits until the old release serves again
    /// in every slot. Warns if the directory or the program, as it was given, names another release
    /// than the one that serves then: the next reload or HUP deploys that.
    Rollback(Rollback),
    /// Prints the generations: when, how long, how they ended, release, command
    History(Common),
    /// Sets the number of slots
    ///
    /// Waits until all slots are ready and the surplus workers are gone. If new workers fail too
    /// often, the old number comes back (exit 1).
    Scale(Scale),
    /// Stops the service and waits until the master is gone, and everything of the service
    ///
    /// Exit 1 if a process of the service lives on, such as one of another user, which the master
    /// may not kill; the error names it. Exit 3 where nothing runs, and if something else ended the
    /// master before it had stopped the service (under pf-listen --hold it is started again then).
    /// A zombie counts as gone.
    Stop(Stop),
    /// Stops the workers and keeps the master and its listeners; clients wait in the accept queue
    Pause(Plain),
    /// Starts the workers of a paused service again
    Resume(Plain),
    /// Replaces the worker of one slot; the old worker stops when the new one is ready
    RestartWorker(RestartWorker),
    /// Ends the drain of a generation: its retiring workers get the quick signal
    ///
    /// Waits until they are gone.
    Retire(Retire),
    /// Reopens the logs and passes USR1 on to the workers that catch it
    Reopen(Plain),
    /// Sends a signal to the master, to all workers, or to one worker
    Signal(SignalArgs),
    /// Prints the pid of the running master
    Pid(Common),
    /// Waits for a state of the service or for the end of an operation
    Wait(Wait),
    /// Follows what happens, as one JSON object a line, until the service has stopped
    ///
    /// Every event has seq (its number, without gaps), at (RFC 3339, UTC) and event. Goes on with
    /// the next master by itself when the master is upgraded. Ends with 0 when the service has
    /// stopped, and with 3 if the master died.
    Events(Events),
    /// Rehearses a deployment on the running service, under load: nothing is deployed
    ///
    /// Makes load on every stream listener; meanwhile reloads, restarts workers, scales up and
    /// back, upgrades in place and by fork, and kills a worker, all with copies of what serves and
    /// with the image that runs. Tells for each step what was lost, how long answers took, and
    /// whose doing it was. Exit 1 if anything was lost but what the killed worker had accepted, or
    /// if a step failed.
    Drill(Drill),
    /// Prints the listeners: name, address, fd in the workers, and accept queue (queued/backlog)
    ///
    /// With --remove, takes one away: the workers are rolled to a generation without it, as in a
    /// reload, and then the master closes it.
    Listeners(Listeners),
    /// Gives the master the listeners that pf-ctl has inherited, and rolls the workers to them
    ///
    /// Run it under pf-listen: pf-listen admin=:9090 -- pf-ctl add-fds FILE. Waits as reload does.
    /// If the new workers fail, the listeners are closed again and the exit code is 1. What the
    /// master has already is done at once.
    AddFds(Plain),
    /// Becomes COMMAND, with the listeners of the master; the service goes on as it was
    ///
    /// COMMAND gets them as pf-listen hands them on: at fd 3 and up, told by LISTEN_FDS,
    /// LISTEN_PID and LISTEN_FDNAMES. So a second master can take a service over: then stop the
    /// first one. Exits with 126 if COMMAND cannot be executed, with 127 if it is not found.
    TakeFds(TakeFds),
}

/// The options of every verb.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The master's pid file or control socket
    pub target: PathBuf,

    /// Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on
    #[arg(long, value_name = "DURATION", default_value = "off", value_parser = duration_or_off)]
    pub timeout: Off<Duration>,

    /// Print the master's reply as one line of JSON on stdout
    #[arg(long)]
    pub json: bool,

    /// Present the content of this file to a master that was started with --control-token
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,

    /// Print only errors on stderr
    #[arg(short, long)]
    pub quiet: bool,
}

/// The options of a verb that begins an operation.
#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    pub common: Common,

    /// Do not wait; print the operation's id, which wait --op takes
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct Listeners {
    #[command(flatten)]
    pub plain: Plain,

    /// Take this listener away, by its name, or its address if it has none
    ///
    /// Several listeners with this name all go. A rollback binds them again at their addresses.
    #[arg(long, value_name = "NAME")]
    pub remove: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct TakeFds {
    #[command(flatten)]
    pub common: Common,

    /// Pass the listeners on in this protocol too, as pf-listen does; repeatable
    #[arg(short, long, value_name = "PROTO", value_parser = protocols())]
    pub export: Vec<Protocol>,

    /// The program to become, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    pub plain: Plain,

    /// Only print what would change: program, directory, environment, listeners, peak workers
    ///
    /// Exit 1 if the reload would fail before it starts a worker.
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,

    #[command(flatten)]
    pub changes: crate::cmd::ctl::changes::ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    pub plain: Plain,

    /// Only print what would change: the master's program and command line, then as for reload
    ///
    /// Exit 1 if the upgrade would fail before it executes the new program.
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,

    /// Start a new master beside the old one, which exits when its last worker is gone
    ///
    /// The old master's pid file is called FILE.oldbin meanwhile. Not possible for a master that is
    /// pid 1 or runs under pf-listen --hold.
    #[arg(long)]
    pub fork: bool,

    /// With --fork: both masters serve with all workers until one of them gets QUIT
    ///
    /// QUIT to the old master commits the upgrade, QUIT to the new one takes it back.
    #[arg(long, requires = "fork")]
    pub manual: bool,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    pub plain: Plain,

    /// Roll to the release of this generation, which must be kept (see history)
    ///
    /// The last 5 releases are kept, besides the one that serves.
    #[arg(long, value_name = "GENERATION")]
    pub to: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Scale {
    #[command(flatten)]
    pub plain: Plain,

    /// The number of slots, or how many more or fewer
    // Parsed by `workers` and not by clap, so that a wrong number is an error of one line.
    #[arg(value_name = "N|+N|-N", allow_negative_numbers = true)]
    pub workers: String,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    pub plain: Plain,

    /// Stop quickly: the workers get the quick signal instead of the graceful one
    #[arg(long)]
    pub now: bool,

    /// When --timeout has passed, kill the master and all its descendants (needs --timeout)
    ///
    /// Then wait until all of them are gone, 10s at most. A pf-listen --hold is told to end first.
    #[arg(long, conflicts_with = "no_wait")]
    pub kill: bool,
}

#[derive(Debug, Args)]
pub(super) struct RestartWorker {
    #[command(flatten)]
    pub plain: Plain,

    /// The slot, counted from 0
    pub slot: u32,
}

#[derive(Debug, Args)]
pub(super) struct Retire {
    #[command(flatten)]
    pub plain: Plain,

    /// The generation's number
    pub generation: u64,
}

#[derive(Debug, Args)]
pub(super) struct SignalArgs {
    #[command(flatten)]
    pub plain: Plain,

    /// The signal by name: TERM, SIGTERM, usr2
    #[arg(value_name = "SIG")]
    pub signal: Signal,

    /// Send it to every worker
    #[arg(long, conflicts_with = "slot")]
    pub workers: bool,

    /// Send it to the worker of this slot
    #[arg(long, value_name = "SLOT")]
    pub slot: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct Events {
    #[command(flatten)]
    pub common: Common,

    /// Begin with the event after this number; 0: with the oldest that is kept
    ///
    /// The last 1000 events are kept, also through upgrades. Older ones that are asked for are told
    /// as one event, missed, with their count. Without this option the events begin from now on.
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Drill {
    #[command(flatten)]
    pub common: Common,

    /// Do not ask before it begins
    #[arg(short, long)]
    pub yes: bool,

    /// What is sent on each connection, with \r, \n, \t, \0, \\ and \xNN; empty: only connect
    ///
    /// A request of HTTP/1 is also sent over connections that are kept. Of another text the answer
    /// is read to the end of the connection. [default: a GET of /]
    #[arg(long, value_name = "TEXT")]
    pub request: Option<String>,
}

#[derive(Debug, Args)]
#[group(id = "state", required = true, multiple = false, args = ["ready", "gone", "op"])]
pub(super) struct Wait {
    #[command(flatten)]
    pub common: Common,

    /// Until all slots are ready and no rollout runs; also waits for the master to appear
    #[arg(long)]
    pub ready: bool,

    /// With --ready: how long the master may take to appear (off: for ever)
    ///
    /// Exit 3 if no master runs by then, or when --timeout passes before that.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration_or_off,
        conflicts_with_all = ["gone", "op"]
    )]
    pub appear: Off<Duration>,

    /// Until the master is gone; done at once where nothing runs
    #[arg(long)]
    pub gone: bool,

    /// Until this operation has ended; the exit code is that of its own command
    #[arg(long, value_name = "ID")]
    pub op: Option<String>,
}

mod request;
#[cfg(test)]
mod tests;
