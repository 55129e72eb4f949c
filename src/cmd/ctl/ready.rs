//! `wait --ready`, which also waits for a master that is not there yet.

use std::time::Duration;

use super::job::Job;
use super::signal_fallback;
use crate::client::failure::master_died;
use crate::client::{Master, POLL_INTERVAL, Reach};
use crate::error::{Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::wire::control::ControlCommand;

/// A control socket is bound under a closed umask, and gets its owner and mode a moment later. So a
/// refused permission counts only after this time.
const BEING_BOUND: Duration = Duration::from_millis(500);

/// Waits for the master to appear, then until it reports that all slots are ready.
///
/// Once connected, this waits for that one master. If it exits, the result is exit 3, unless
/// another master has taken over the service by then: in that case this waits for the new master.
pub(super) fn wait(job: &Job, command: ControlCommand) -> Result<Exit> {
    let mut reach = appear(job)?;
    loop {
        let Some(mut connection) = reach.control else {
            return signal_fallback::send(job, reach.master.as_ref(), &command);
        };
        job.display.show_wait("waiting until all slots are ready");
        let answered = job.exchange(&mut connection, command.clone())?;
        if let Some(line) = answered.filter(|(reply, _)| !Job::has_moved(reply)) {
            return job.conclude(line);
        }
        let before = reach.master.as_ref().map(Master::pid);
        reach = job.target.reach(job.deadline).map_err(|_| master_died())?;
        // The same master closed the connection, or one in another pid namespace, which cannot be
        // told from it.
        if before.is_none() || reach.master.as_ref().map(Master::pid) == before {
            return Err(master_died());
        }
    }
}

fn appear(job: &Job) -> Result<Reach> {
    let mut denied: Option<Time> = None;
    let mut is_shown = false;
    loop {
        let error = match job.target.reach(job.deadline) {
            Ok(reach) => return Ok(reach),
            Err(error) => error,
        };
        let now = clock::now();
        let is_transient = match error.exit {
            Exit::NotRunning => {
                denied = None;
                true
            }
            Exit::Permission => now.since(*denied.get_or_insert(now)) < BEING_BOUND,
            _ => false,
        };
        if !is_transient {
            return Err(job.explain_timeout(error));
        }
        let left = job
            .deadline
            .map_or(POLL_INTERVAL, |deadline| deadline.since(now));
        if left.is_zero() {
            return Err(job.timed_out(&error.to_string()));
        }
        if !is_shown {
            job.display.show_wait("waiting for the master to appear");
            is_shown = true;
        }
        clock::pause(left.min(POLL_INTERVAL));
    }
}
