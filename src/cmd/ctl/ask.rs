//! What most verbs do: ask the master, or send a signal to a master that has no control socket.

use super::job::{Job, malformed_reply};
use super::signal_fallback;
use crate::client::master::unanswered;
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
    let answered = job.exchange(&mut connection, command)?;
    let (reply, text) = match answered {
        Some(answer) => answer,
        None => ask_again(job).unwrap_or_else(|| Err(unanswered(reach.master.as_ref())))?,
    };
    if reply.ok && !has_data(&reply) {
        return Err(malformed_reply("what was asked for is not in it"));
    }
    job.conclude((reply, text))
}

/// How often a connection that breaks is made anew, to go on waiting.
const TRIES: usize = 3;

/// The connection broke while an operation is waited for: whichever master the target names now is
/// asked how the operation ends. `None`: no master there can be asked.
fn ask_again(job: &Job) -> Option<Result<(Reply, String)>> {
    for _ in 0..TRIES {
        let op = job.operation();
        let wait = ControlCommand::Wait {
            ready: false,
            op: Some(op?),
        };
        let mut connection = job.target.reach(job.deadline).ok()?.control?;
        if let Some(answered) = job.exchange(&mut connection, wait).transpose() {
            return Some(answered);
        }
    }
    None
}
