//! `wait --ready`, which also waits for a master that is not there yet.

use std::time::Duration;

use super::job::Job;
use super::signal_fallback;
use crate::client::failure::master_died;
use crate::client::{Master, POLL_INTERVAL, Reach};
use crate::cmd::values::Off;
use crate::error::{Error, Exit, Result};
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
pub(super) fn wait(
    job: &Job,
    appears_within: Off<Duration>,
    command: ControlCommand,
) -> Result<Exit> {
    let mut reach = appear(job, appears_within.on())?;
    loop {
        let Some(mut connection) = reach.control else {
            return signal_fallback::send(job, reach.master.as_ref(), &command);
        };
        job.display.show_wait("waiting until all slots are ready");
        let answered = job.exchange(&mut connection, command.clone())?;
        let moved = match answered {
            Some(line) if !Job::has_moved(&line.0) => return job.conclude(line),
            moved => moved,
        };
        let before = reach.master.as_ref().map(Master::pid);
        reach = job.target.reach(job.deadline).map_err(|_| master_died())?;
        // The same master closed the connection, or one in another pid namespace, which cannot be
        // told from it.
        if before.is_none() || reach.master.as_ref().map(Master::pid) == before {
            // It may have said that another one is to be asked.
            return match moved {
                Some(line) => job.conclude(line),
                None => Err(reach.unanswered(&connection)),
            };
        }
    }
}

fn appear(job: &Job, within: Option<Duration>) -> Result<Reach> {
    let mut denied: Option<Time> = None;
    let appears_by = within.map(|within| clock::now() + within);
    let until = [appears_by, job.deadline].into_iter().flatten().min();
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
        let left = until.map_or(POLL_INTERVAL, |until| until.since(now));
        if left.is_zero() {
            return Err(no_master(error, until == appears_by));
        }
        if !is_shown {
            job.display.show_wait("waiting for the master to appear");
            is_shown = true;
        }
        job.display.tick();
        clock::pause(left.min(POLL_INTERVAL));
    }
}

/// No master has appeared in time: not running, also where it is `--timeout` that has passed.
fn no_master(error: Error, appear_passed: bool) -> Error {
    let why = match error.why.is_empty() {
        true => error.what,
        false => error.why,
    };
    let none = Error::new(Exit::NotRunning, "no master has appeared in time", why);
    if appear_passed {
        return none.hint("--appear DURATION waits longer for it");
    }
    none
}
