//! The command line of `pf-ctl`: the doc comments here are its help and its man page.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cmd::values::{Off, duration_or_off};
use crate::error::{Error, Result};
use crate::model::signal::Signal;
use crate::wire::control::ControlCommand;

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed; the old state holds (rolled back)
  2  wrong usage
  3  not running (no pid file, or a stale one, which is never signalled), or the master died meanwhile
  4  no permission
  5  not finished by --timeout; the operation goes on
  6  refused: another operation is under way, or it makes no sense now
  111  the system refused: standard output cannot be written, say

TARGET is the master's pid file or its control socket. Of a pid file only the owner of its lock counts, never the \
number in it. The control socket of a pid file is the same path with .pid replaced by .ctl (else .ctl appended).

A master without a control socket can only be sent signals: with --no-wait, reload sends HUP, stop QUIT (--now: INT), \
pause WINCH, reopen USR1, scale +N TTIN and -N TTOU.";

/// Controls a running pf-master.
///
/// Sends one request to a master and waits until it is done, with an exit code that says how it ended. What is asked for
/// goes on in the master when pf-ctl is interrupted or runs into its --timeout.
#[derive(Debug, Parser)]
#[command(name = "pf-ctl", version, after_help = AFTER_HELP, arg_required_else_help = true,
    override_usage = "pf-ctl VERB TARGET [OPERAND]... [OPTIONS] [-- COMMAND [ARG]...]", subcommand_help_heading = "Verbs")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Rolls the workers to a new generation: program and directory are looked up anew
    ///
    /// Waits until every slot's worker is new and ready and no old one accepts any more. If the new workers fail, the old
    /// generation serves on and the exit code is 1.
    Reload(Reload),
    /// Replaces the master's own image and all workers
    ///
    /// The successor is checked first, then executed in the same process: its pid, the listeners, the workers and whoever waits stay. Then the
    /// workers are rolled to a new generation. If the successor or the new workers fail, the old ones serve on and the exit code is 1.
    Upgrade(Upgrade),
    /// Ends a running rollout, or rolls to the generation before
    ///
    /// Waits until the old generation serves again in every slot.
    Rollback(Plain),
    /// Sets the number of slots
    ///
    /// Waits until all are ready and the surplus is gone. New workers that fail too often undo it (exit 1).
    Scale(Scale),
    /// Stops the service and waits until the master is gone
    ///
    /// Exit 3 where nothing runs. The zombie of a master counts as gone.
    Stop(Stop),
    /// Stops the workers and keeps the master and its listeners; clients queue meanwhile
    Pause(Plain),
    /// Brings the workers of a paused service back
    Resume(Plain),
    /// Replaces the worker of one slot, the new one ready first
    RestartWorker(RestartWorker),
    /// Ends the drain of a generation: those of its workers that were told to finish are told to go now
    ///
    /// Waits until they are gone.
    Retire(Retire),
    /// Reopens the logs and passes USR1 on to the workers that catch it
    Reopen(Plain),
    /// Delivers a signal to the master, to all workers, or to one
    Signal(SignalArgs),
    /// Prints the pid of the live master
    Pid(Common),
    /// Waits for a state of the service or for the end of an operation
    Wait(Wait),
    /// Prints the listeners: name, address, fd as workers have it, and accept queue (queued/backlog)
    Listeners(Common),
}

/// What every verb takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The master's pid file or control socket
    pub target: PathBuf,

    /// Give up waiting after this long (30s, 1m 30s, 250ms; off); what was begun goes on
    #[arg(long, value_name = "DURATION", default_value = "off", value_parser = duration_or_off)]
    pub timeout: Off<Duration>,

    /// Print the master's reply as one line of JSON on stdout
    #[arg(long)]
    pub json: bool,

    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// A verb that waits and needs no operand.
#[derive(Debug, Args)]
pub(super) struct Plain {
    #[command(flatten)]
    pub common: Common,

    /// Do not wait; print the operation's number, which wait --op takes
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    pub plain: Plain,

    /// Only print what would happen: program, directory, environment and listener differences, peak workers
    ///
    /// Exit 1 if it would fail before anything is started.
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,

    #[command(flatten)]
    pub changes: super::changes::Args,
}

#[derive(Debug, Args)]
pub(super) struct Upgrade {
    #[command(flatten)]
    pub plain: Plain,

    /// Only print what would happen: the master's program and what it executes, then what a reload would change
    ///
    /// Exit 1 if it would fail before anything is executed.
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,

    /// Start a new master beside the running one, which leaves once its last worker is gone
    ///
    /// The old master's pid file is called FILE.oldbin meanwhile. Not for a master that is pid 1 or runs under pf-listen --hold.
    #[arg(long)]
    pub fork: bool,

    /// With --fork: both serve with all workers until QUIT to one of them; to the old one commits, to the new one backs out
    #[arg(long, requires = "fork")]
    pub manual: bool,
}

#[derive(Debug, Args)]
pub(super) struct Scale {
    #[command(flatten)]
    pub plain: Plain,

    /// The number of slots, or how many more or fewer
    // Read here and not by clap: what is no number is to be one line.
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

    /// When --timeout has passed, send KILL to the master and all that descends from it, and wait 1 s more (needs --timeout)
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

    /// To every worker
    #[arg(long, conflicts_with = "slot")]
    pub workers: bool,

    /// To the worker that holds this slot
    #[arg(long, value_name = "SLOT")]
    pub slot: Option<u32>,
}

#[derive(Debug, Args)]
#[group(id = "state", required = true, multiple = false, args = ["ready", "gone", "op"])]
pub(super) struct Wait {
    #[command(flatten)]
    pub common: Common,

    /// Until all slots are ready and no rollout runs; waits for the master to appear, too
    #[arg(long)]
    pub ready: bool,

    /// Until the master is gone; done at once where nothing runs
    #[arg(long)]
    pub gone: bool,

    /// Until this operation has ended, with the exit code that its own command would have had
    #[arg(long, value_name = "ID")]
    pub op: Option<u64>,
}

impl Verb {
    /// The name, as typed.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Verb::Reload(_) => "reload",
            Verb::Upgrade(_) => "upgrade",
            Verb::Rollback(_) => "rollback",
            Verb::Scale(_) => "scale",
            Verb::Stop(_) => "stop",
            Verb::Pause(_) => "pause",
            Verb::Resume(_) => "resume",
            Verb::RestartWorker(_) => "restart-worker",
            Verb::Retire(_) => "retire",
            Verb::Reopen(_) => "reopen",
            Verb::Signal(_) => "signal",
            Verb::Pid(_) => "pid",
            Verb::Wait(_) => "wait",
            Verb::Listeners(_) => "listeners",
        }
    }

    /// The common options, and whether not to wait.
    pub(super) fn options(&self) -> (&Common, bool) {
        let plain = match self {
            Verb::Reload(reload) => &reload.plain,
            Verb::Upgrade(upgrade) => &upgrade.plain,
            Verb::Scale(scale) => &scale.plain,
            Verb::Stop(stop) => &stop.plain,
            Verb::RestartWorker(restart) => &restart.plain,
            Verb::Retire(retire) => &retire.plain,
            Verb::Signal(signal) => &signal.plain,
            Verb::Rollback(plain)
            | Verb::Pause(plain)
            | Verb::Resume(plain)
            | Verb::Reopen(plain) => plain,
            Verb::Pid(common) | Verb::Listeners(common) => return (common, false),
            Verb::Wait(wait) => return (&wait.common, false),
        };
        (&plain.common, plain.no_wait)
    }

    /// What to ask the master for; `None` where it is not asked: its pid, and its end.
    pub(super) fn command(&self) -> Result<Option<ControlCommand>> {
        Ok(Some(match self {
            Verb::Reload(reload) => ControlCommand::Reload {
                dry_run: reload.dry_run,
                changes: reload.changes.read()?,
            },
            Verb::Upgrade(upgrade) => ControlCommand::Upgrade {
                dry_run: upgrade.dry_run,
                fork: upgrade.fork,
                manual: upgrade.manual,
            },
            Verb::Rollback(_) => ControlCommand::Rollback,
            Verb::Scale(scale) => ControlCommand::Scale {
                workers: workers(&scale.workers)?.into(),
            },
            Verb::Stop(stop) => ControlCommand::Stop { now: stop.now },
            Verb::Pause(_) => ControlCommand::Pause,
            Verb::Resume(_) => ControlCommand::Resume,
            Verb::RestartWorker(restart) => ControlCommand::RestartWorker { slot: restart.slot },
            Verb::Retire(retire) => ControlCommand::Retire {
                generation: retire.generation,
            },
            Verb::Reopen(_) => ControlCommand::Reopen,
            Verb::Signal(SignalArgs {
                signal,
                workers,
                slot,
                ..
            }) => ControlCommand::Signal {
                signal: signal.name().to_owned(),
                workers: *workers,
                slot: *slot,
            },
            Verb::Wait(Wait { gone: true, .. }) | Verb::Pid(_) => return Ok(None),
            Verb::Wait(wait) => ControlCommand::Wait {
                ready: wait.ready,
                op: wait.op,
            },
            Verb::Listeners(_) => ControlCommand::Listeners,
        }))
    }
}

/// The operand of `scale`, checked and passed on as written: whether a sign means a difference is for the master to say.
fn workers(text: &str) -> Result<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u32>().is_ok();
    if !is_number {
        return Err(Error::usage(format!("'{text}' is no number of workers")).hint("N, +N or -N"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Verb, clap::Error> {
        Cli::try_parse_from(std::iter::once("pf-ctl").chain(line.split(' '))).map(|cli| cli.verb)
    }

    #[test]
    fn a_sign_is_a_number_and_options_may_stand_anywhere() {
        for line in [
            "scale t -2 --timeout 1s",
            "scale t --timeout 1s -2",
            "scale --timeout 1s t -2",
            "scale t -2 --no-wait --timeout 1s",
        ] {
            let verb = parse(line).expect(line);
            assert_eq!(
                verb.command(),
                Ok(Some(ControlCommand::Scale {
                    workers: "-2".into()
                })),
                "{line}"
            );
            assert_eq!(verb.options().0.timeout, Off::On(Duration::from_secs(1)));
        }
    }

    #[test]
    fn what_is_no_number_is_a_usage_error() {
        for operand in ["x", "", "+", "1.5", "++1", "99999999999", "+ 1", "1e3"] {
            assert_eq!(
                workers(operand).map_err(|error| error.exit),
                Err(crate::error::Exit::Usage),
                "{operand}"
            );
        }
        for operand in ["0", "4", "+1", "-2"] {
            assert_eq!(workers(operand).as_deref(), Ok(operand));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "wait t",
            "wait t --ready --gone",
            "wait t --op x",
            "signal t HUP --workers --slot 1",
            "signal t 15",
            "stop t --kill --no-wait",
            "reload t --dry-run --no-wait",
            "pid t --no-wait",
            "restart-worker t -1",
            "reload t --timeout 5",
            "upgrade t --dry-run --no-wait",
            "upgrade t --manual",
            "scale t",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("reload t --timeout off").is_ok());
    }
}
