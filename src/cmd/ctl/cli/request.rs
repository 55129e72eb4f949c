//! From a verb with its operands to the request that is sent to the master.

use super::{Common, SignalArgs, Verb, Wait};
use crate::error::{Error, Result};
use crate::wire::control::ControlCommand;

impl Verb {
    /// The verb, as typed.
    pub(in crate::cmd::ctl) fn name(&self) -> &'static str {
        match self {
            Verb::Reload(_) => "reload",
            Verb::Upgrade(_) => "upgrade",
            Verb::Rollback(_) => "rollback",
            Verb::History(_) => "history",
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
            Verb::Events(_) => "events",
            Verb::Drill(_) => "drill",
            Verb::Listeners(_) => "listeners",
            Verb::AddFds(_) => "add-fds",
            Verb::TakeFds(_) => "take-fds",
        }
    }

    /// The common options, and whether not to wait.
    pub(in crate::cmd::ctl) fn options(&self) -> (&Common, bool) {
        let plain = match self {
            Verb::Reload(reload) => &reload.plain,
            Verb::Upgrade(upgrade) => &upgrade.plain,
            Verb::Scale(scale) => &scale.plain,
            Verb::Stop(stop) => &stop.plain,
            Verb::RestartWorker(restart) => &restart.plain,
            Verb::Retire(retire) => &retire.plain,
            Verb::Signal(signal) => &signal.plain,
            Verb::Rollback(rollback) => &rollback.plain,
            Verb::Listeners(listeners) => &listeners.plain,
            Verb::Pause(plain)
            | Verb::Resume(plain)
            | Verb::Reopen(plain)
            | Verb::AddFds(plain) => plain,
            Verb::Pid(common) | Verb::History(common) => return (common, false),
            Verb::TakeFds(take) => return (&take.common, false),
            Verb::Wait(wait) => return (&wait.common, false),
            Verb::Events(events) => return (&events.common, false),
            Verb::Drill(drill) => return (&drill.common, false),
        };
        (&plain.common, plain.no_wait)
    }

    /// The request to the master. `None`: the verb needs only its process (`pid`, `wait --gone`),
    /// or makes many requests (`drill`).
    ///
    /// # Errors
    /// Exit 2: an operand is wrong.
    pub(in crate::cmd::ctl) fn command(&self) -> Result<Option<ControlCommand>> {
        Ok(Some(match self {
            Verb::Reload(reload) => ControlCommand::Reload {
                dry_run: reload.dry_run,
                copy: false,
                changes: reload.changes.read()?,
            },
            Verb::Upgrade(upgrade) => ControlCommand::Upgrade {
                dry_run: upgrade.dry_run,
                copy: false,
                fork: upgrade.fork,
                manual: upgrade.manual,
            },
            Verb::Rollback(rollback) => ControlCommand::Rollback { to: rollback.to },
            Verb::History(_) => ControlCommand::History,
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
            Verb::Wait(Wait { gone: true, .. }) | Verb::Pid(_) | Verb::Drill(_) => {
                return Ok(None);
            }
            Verb::Wait(wait) => ControlCommand::Wait {
                ready: wait.ready,
                op: wait.op.clone(),
            },
            Verb::Events(events) => ControlCommand::Events {
                since: events.since,
                log: None,
            },
            Verb::Listeners(listeners) => {
                if listeners.plain.no_wait && listeners.remove.is_none() {
                    return Err(Error::usage("--no-wait goes with --remove"));
                }
                ControlCommand::Listeners {
                    remove: listeners.remove.clone(),
                }
            }
            // The descriptors go along: see `fds`.
            Verb::AddFds(_) => ControlCommand::AddFds { names: None },
            Verb::TakeFds(_) => ControlCommand::TakeFds,
        }))
    }
}

/// The operand of `scale`, checked and passed on as written: the master reads the sign.
pub(super) fn workers(text: &str) -> Result<String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u32>().is_ok();
    if !is_number {
        let what = format!("'{text}' is not a number of workers");
        return Err(Error::usage(what).hint("N, +N or -N"));
    }
    Ok(text.to_owned())
}
