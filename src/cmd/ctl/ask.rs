//! What most verbs do: ask the master, or send a signal to a master that has no control socket.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::job::{Job, malformed_reply};
use super::signal_fallback;
use crate::error::{Exit, Result};
use crate::sys::machine::clock;
use crate::wire::control::{ControlCommand, Reply};

/// Sends `command` to the master and returns the exit code that the reply means.
pub(super) fn ask(job: &Job, command: ControlCommand) -> Result<Exit> {
    ask_with(job, command, &[])
}

/// As [`ask`], with descriptors that go along with the request.
pub(super) fn ask_with(job: &Job, command: ControlCommand, fds: &[BorrowedFd<'_>]) -> Result<Exit> {
    let mut reach = job
        .target
        .reach(job.deadline)
        .map_err(|error| job.explain_timeout(error))?;
    let Some(mut connection) = reach.control.take() else {
        return signal_fallback::send(job, reach.master.as_ref(), &command);
    };
    let has_data: fn(&Reply) -> bool = match command {
        ControlCommand::Listeners { remove: None } => |reply| reply.listeners.is_some(),
        ControlCommand::History => |reply| reply.generations.is_some(),
        ControlCommand::Reload { dry_run: true, .. }
        | ControlCommand::Upgrade { dry_run: true, .. } => |reply| reply.plan.is_some(),
        _ => |_| true,
    };
    let by_fork = matches!(
        command,
        ControlCommand::Upgrade {
            dry_run: false,
            fork: true,
            manual: false,
            ..
        }
    );
    let answered = job.exchange_with(&mut connection, command, fds)?;
    let answer = answered.ok_or_else(|| reach.unanswered(&connection))?;
    let (reply, text) = if Job::has_moved(&answer.0) {
        ask_new_master(job).unwrap_or(Ok(answer))?
    } else {
        answer
    };
    if by_fork
        && reply.ok
        && !job.no_wait
        && let Some(master) = &reach.master
    {
        // An old master that has nothing to drain is about to exit: then the next `pf-ctl` finds
        // only the new one. A drain is not waited for.
        let until = clock::now() + EXITS_WITHIN;
        // The upgrade is done, whether its end can be seen or not.
        let _ = master.wait_gone(Some(job.deadline.map_or(until, |by| by.min(until))));
    }
    if reply.ok && !has_data(&reply) {
        return Err(malformed_reply("what was asked for is not in it"));
    }
    job.conclude((reply, text))
}

/// How long an old master that has nothing to drain may take to exit.
const EXITS_WITHIN: Duration = Duration::from_secs(1);

/// An operation is waited for, and the master that was asked leaves: the one that the target names
/// by then goes on with it. `None`: there is none.
fn ask_new_master(job: &Job) -> Option<Result<(Reply, String)>> {
    let wait = ControlCommand::Wait {
        ready: false,
        op: Some(job.operation()?),
    };
    let reach = job.target.reach(job.deadline).ok()?;
    let answered = job.exchange(&mut reach.control?, wait).transpose()?;
    Some(answered)
}
