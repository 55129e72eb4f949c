//! `wait --ready`: also for a master that is not there yet.

use std::time::Duration;

use super::job::Job;
use super::signal_fallback;
use crate::client::{LOOK_AGAIN, Master, Reach, died};
use crate::error::{Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::wire::control::ControlCommand;

/// How long a refused permission may be that of a control socket which is just being bound: under a closed umask first,
/// with its owner and mode a moment later.
const BEING_BOUND: Duration = Duration::from_millis(500);

/// Waits for the master to appear, then until it says that all is ready.
///
/// Once connected it is that master which is waited for: its death is exit 3, unless it has left the service to another, which is in its place by then.
pub(super) fn wait(job: &Job, command: ControlCommand) -> Result<Exit> {
    let mut reach = appear(job)?;
    loop {
        let Some(mut connection) = reach.control else {
            return signal_fallback::signal(job, reach.master.as_ref(), &command);
        };
        job.waiting.on("waiting until all slots are ready");
        if let Some(line) = job.exchange(&mut connection, command.clone())? {
            return job.conclude(line);
        }
        let before = reach.master.as_ref().map(Master::pid);
        reach = job.target.reach(job.deadline).map_err(|_| died())?;
        // The same one, or one that cannot be told from it, has thrown us out.
        if before.is_none() || reach.master.as_ref().map(Master::pid) == before {
            return Err(died());
        }
    }
}

fn appear(job: &Job) -> Result<Reach> {
    let mut denied: Option<Time> = None;
    let mut told = false;
    loop {
        let error = match job.target.reach(job.deadline) {
            Ok(reach) => return Ok(reach),
            Err(error) => error,
        };
        let now = clock::now();
        let may_pass = match error.exit {
            Exit::NotRunning => {
                denied = None;
                true
            }
            Exit::Permission => now.since(*denied.get_or_insert(now)) < BEING_BOUND,
            _ => false,
        };
        if !may_pass {
            return Err(job.late(error));
        }
        let left = job
            .deadline
            .map_or(LOOK_AGAIN, |deadline| deadline.since(now));
        if left.is_zero() {
            return Err(job.too_late(&error.to_string()));
        }
        if !told {
            job.waiting.on("waiting for the master to appear");
            told = true;
        }
        clock::pause(left.min(LOOK_AGAIN));
    }
}
