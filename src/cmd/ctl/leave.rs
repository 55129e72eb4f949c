//! Where the process itself matters: stopping it, waiting until it is gone, and its pid.

use std::time::Duration;

use serde_json::json;

use super::job::Job;
use super::signal_fallback;
use crate::client::{ANSWER_WITHIN, Connection, Master};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::wire::control::ControlCommand;

/// How long a master may take to die of KILL.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How often a master of another pid namespace is looked at: there is no descriptor to wait on.
const LOOK_FAR: Duration = Duration::from_millis(200);

/// `stop`: asks, and waits until the process is gone.
pub(super) fn stop(job: &Job, command: ControlCommand, kill: bool) -> Result<Exit> {
    if kill && job.timeout.is_none() {
        return Err(Error::usage("--kill needs --timeout"));
    }
    let reach = match job.target.reach(job.deadline) {
        // One that does not even accept is killed all the same, where a pid file tells which process it is.
        Err(error) if kill && error.exit == Exit::Timeout => {
            let master = job
                .target
                .master(job.deadline)
                .map_err(|_| job.late(error))?;
            return finish_off(job, master.as_ref());
        }
        reach => reach.map_err(|error| job.late(error))?,
    };
    let master = reach.master.as_ref();
    let Some(mut connection) = reach.control else {
        return signal_fallback::signal(job, master, &command);
    };
    match ask_to_leave(job, &mut connection, master, command) {
        Err(error) if kill && error.exit == Exit::Timeout => finish_off(job, master),
        result => {
            result?;
            job.done(Some("stopped"));
            Ok(Exit::Done)
        }
    }
}

fn ask_to_leave(
    job: &Job,
    connection: &mut Connection,
    master: Option<&Master>,
    command: ControlCommand,
) -> Result<()> {
    match job.exchange(connection, command)? {
        Some((reply, text)) => {
            job.check((&reply, &text))?;
            job.waiting
                .on(reply.message.as_deref().unwrap_or("stopping"));
            until_gone(job, connection, master, job.deadline)
        }
        // It may have died of this or of something else; a closed connection alone proves neither.
        None => {
            let soon = clock::now() + ANSWER_WITHIN;
            let until = job.deadline.map_or(soon, |deadline| deadline.min(soon));
            until_gone(job, connection, master, Some(until)).map_err(|error| {
                if error.exit == Exit::Timeout && until == soon {
                    return Error::new(
                        Exit::Failed,
                        "the master closed the connection without an answer, and still runs",
                        "",
                    );
                }
                error
            })
        }
    }
}

fn until_gone(
    job: &Job,
    connection: &mut Connection,
    master: Option<&Master>,
    until: Option<Time>,
) -> Result<()> {
    match master {
        Some(master) if master.wait_gone(until)? => Ok(()),
        Some(master) => Err(job.too_late(&format!("process {} still runs", master.pid()))),
        // No process to wait on from here: its end closes the connection.
        None => {
            while connection
                .next_line()
                .map_err(|error| job.late(error))?
                .is_some()
            {}
            Ok(())
        }
    }
}

/// What asking did not end in time, KILL does.
fn finish_off(job: &Job, master: Option<&Master>) -> Result<Exit> {
    let Some(master) = master else {
        return Err(
            job.too_late("it lives in another pid namespace and cannot be killed from here")
        );
    };
    // Without the master nobody would end its workers before their time.
    match master.kill_with_kin() {
        Err(error) if error.exit != Exit::NotRunning => return Err(error),
        _ => {}
    }
    if !master.wait_gone(Some(clock::now() + KILLED_WITHIN))? {
        return Err(job.too_late(&format!("process {} survives even KILL", master.pid())));
    }
    job.done(Some(&format!(
        "killed: process {} had not stopped in time",
        master.pid()
    )));
    Ok(Exit::Done)
}

/// `wait --gone`: done at once where nothing runs.
pub(super) fn wait_gone(job: &Job) -> Result<Exit> {
    loop {
        let gone = match job.target.master(job.deadline) {
            Err(error) if error.exit == Exit::NotRunning => true,
            Err(error) => return Err(job.late(error)),
            Ok(Some(master)) => {
                job.waiting
                    .on(&format!("waiting for process {}", master.pid()));
                if !master.wait_gone(job.deadline)? {
                    return Err(job.too_late(&format!("process {} still runs", master.pid())));
                }
                true
            }
            Ok(None) => false,
        };
        if gone {
            job.done(Some("gone"));
            return job.settle(&json!({ "ok": true }), "");
        }
        if job
            .deadline
            .is_some_and(|deadline| deadline <= clock::now())
        {
            return Err(job.too_late("the master still runs"));
        }
        clock::pause(LOOK_FAR);
    }
}

/// `pid`: that of the live master, never just a number that stands in a file.
pub(super) fn pid(job: &Job) -> Result<Exit> {
    let Some(master) = job
        .target
        .master(job.deadline)
        .map_err(|error| job.late(error))?
    else {
        return Err(Error::new(
            Exit::Refused,
            "the master lives in another pid namespace",
            "it has no pid here",
        ));
    };
    let pid = master.pid();
    job.settle(&json!({ "ok": true, "pid": pid }), &format!("{pid}\n"))
}
