//! What most verbs do: ask the master, or send a signal to a master that has no control socket.

use super::job::{Job, malformed_reply};
use super::signal_fallback;
use crate::client::failure::master_died;
use crate::error::{Exit, Result};
use crate::wire::control::{ControlCommand, Reply};

/// Sends `command` to the master and returns the exit code that the reply means.
pub(super) fn ask(job: &Job, command: ControlCommand) -> Result<Exit> {
    let reach = job
        .target
        .reach(job.deadline)
        .map_err(|error| job.explain_timeout(error))?;
    let Some(mut connection) = reach.control else {
        return signal_fallback::send(job, reach.master.as_ref(), &command);
    };
    let has_data: fn(&Reply) -> bool = match command {
        ControlCommand::Listeners => |reply| reply.listeners.is_some(),
        ControlCommand::History => |reply| reply.generations.is_some(),
        ControlCommand::Reload { dry_run: true, .. }
        | ControlCommand::Upgrade { dry_run: true, .. } => |reply| reply.plan.is_some(),
        _ => |_| true,
    };
    let old_master_exits = matches!(
        command,
        ControlCommand::Upgrade {
            dry_run: false,
            fork: true,
            manual: false
        }
    );
    let (reply, text) = job
        .exchange(&mut connection, command)?
        .ok_or_else(master_died)?;
    if let Some(master) = reach
        .master
        .filter(|_| old_master_exits && reply.ok && !job.no_wait)
    {
        // The reply is the last thing that the old master does. Wait for its exit, so that the next
        // `pf-ctl` finds only the new master.
        master.wait_gone(job.deadline)?;
    }
    if reply.ok && !has_data(&reply) {
        return Err(malformed_reply("what was asked for is not in it"));
    }
    job.conclude((reply, text))
}
