//! The verbs that need the master's process: `stop`, `wait --gone` and `pid`.

use std::time::Duration;

use serde_json::json;

use super::job::Job;
use super::signal_fallback;
use crate::client::failure::no_word;
use crate::client::{ANSWER_WITHIN, ControlConnection, Master};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::wire::control::ControlCommand;

/// How long a master may take to exit after KILL.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How long a master that has closed the connection without a word may take to be gone: one that
/// lives on has refused the client.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// How often to look for a master of another pid namespace: there is no descriptor to wait on.
const FOREIGN_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// `stop`: asks the master to stop, and waits until its process and, under `pf-listen --hold`, that
/// of the holder are gone.
pub(super) fn stop(job: &Job, command: ControlCommand, kill: bool) -> Result<Exit> {
    if kill && job.timeout.is_none() {
        return Err(Error::usage("--kill needs --timeout"));
    }
    let reach = match job.target.reach(job.deadline) {
        // With --kill, a master that does not even accept is killed if a pid file names it.
        Err(error) if kill && error.exit == Exit::Timeout => {
            let master = job
                .target
                .master(job.deadline)
                .map_err(|_| job.explain_timeout(error))?;
            return kill_late(job, master.as_ref());
        }
        reach => reach.map_err(|error| job.explain_timeout(error))?,
    };
    let master = reach.master.as_ref();
    let Some(mut connection) = reach.control else {
        return signal_fallback::send(job, master, &command);
    };
    // Found before the stop: afterwards nothing tells who started the master.
    let holder = master.and_then(Master::holder);
    match request_stop(job, &mut connection, master, holder.as_ref(), command) {
        Err(error) if kill && error.exit == Exit::Timeout => kill_late(job, master),
        result => {
            result?;
            job.print_done(Some("stopped"));
            Ok(Exit::Done)
        }
    }
}

fn request_stop(
    job: &Job,
    connection: &mut ControlConnection,
    master: Option<&Master>,
    holder: Option<&Master>,
    command: ControlCommand,
) -> Result<()> {
    match job.exchange(connection, command)? {
        Some((reply, text)) => {
            let outcome = job.check((&reply, &text));
            // A stop that left a process behind has ended the master all the same. Every other
            // error means that there is no stop.
            if outcome
                .as_ref()
                .is_err_and(|error| error.exit != Exit::Failed)
            {
                return outcome;
            }
            if job.operation().is_none() {
                job.display
                    .show_wait(reply.message.as_deref().unwrap_or("stopping"));
            }
            until_gone(job, connection, master, job.deadline)?;
            outcome.and_then(|()| until_holder_gone(job, holder))
        }
        // The connection was closed before the reply. This does not prove that the master exited,
        // so wait for its process.
        None => {
            let within = if connection.has_heard() {
                ANSWER_WITHIN
            } else {
                REFUSED_WITHIN
            };
            let soon = clock::now() + within;
            let until = job.deadline.map_or(soon, |deadline| deadline.min(soon));
            match until_gone(job, connection, master, Some(until)) {
                Ok(()) => Err(ended_by_another(holder)),
                Err(error) if error.exit == Exit::Timeout && !connection.has_heard() => {
                    Err(no_word(connection.presents_token()))
                }
                Err(error) if error.exit == Exit::Timeout && until == soon => Err(Error::new(
                    Exit::Failed,
                    "the master closed the connection without an answer, and still runs",
                    "",
                )),
                Err(error) => Err(error),
            }
        }
    }
}

/// The master is gone, and has not said that it had stopped the service.
fn ended_by_another(holder: Option<&Master>) -> Error {
    let what = "the master was ended by something else before it had stopped the service";
    match holder {
        None => Error::new(Exit::NotRunning, what, ""),
        Some(holder) => {
            let pid = holder.pid();
            let why = format!("pf-listen --hold, process {pid}, starts it again");
            Error::new(Exit::NotRunning, what, why).hint("stop it again")
        }
    }
}

/// Waits for the holder, which has the listeners open until its own end.
fn until_holder_gone(job: &Job, holder: Option<&Master>) -> Result<()> {
    let Some(holder) = holder else {
        return Ok(());
    };
    let soon = clock::now() + ANSWER_WITHIN;
    let until = job.deadline.map_or(soon, |deadline| deadline.min(soon));
    if job.wait_gone(holder, Some(until))? {
        return Ok(());
    }
    let pid = holder.pid();
    Err(Error::new(
        Exit::NotRunning,
        "the master has stopped the service",
        format!("pf-listen --hold, process {pid}, still runs and has the listeners"),
    ))
}

fn until_gone(
    job: &Job,
    connection: &mut ControlConnection,
    master: Option<&Master>,
    until: Option<Time>,
) -> Result<()> {
    match master {
        Some(master) if job.wait_gone(master, until)? => Ok(()),
        Some(master) => Err(job.timed_out(&format!("process {} still runs", master.pid()))),
        // A master of another pid namespace has no pidfd here. Its exit closes the connection.
        None => {
            while connection
                .next_line(job.idle(&|| job.display.tick()))
                .map_err(|error| job.explain_timeout(error))?
                .is_some()
            {}
            Ok(())
        }
    }
}

/// `--kill`: kills a master that did not stop in time.
fn kill_late(job: &Job, master: Option<&Master>) -> Result<Exit> {
    let Some(master) = master else {
        return Err(
            job.timed_out("it lives in another pid namespace and cannot be killed from here")
        );
    };
    // The workers too: without the master, no process would stop them.
    let killed = match master.kill_with_descendants() {
        Err(error) if error.exit != Exit::NotRunning => return Err(error),
        killed => killed.unwrap_or_default(),
    };
    let until = Some(clock::now() + KILLED_WITHIN);
    if !job.wait_gone(master, until)? {
        let why = format!("process {} still runs after KILL", master.pid());
        return Err(job.timed_out(&why));
    }
    let mut survivors = Vec::new();
    for process in &killed {
        if !job.wait_gone(process, until)? {
            survivors.push(process.describe());
        }
    }
    if !survivors.is_empty() {
        let what = format!(
            "process {} was killed, and not all of it is gone",
            master.pid()
        );
        return Err(Error::new(Exit::Failed, what, survivors.join(", ")));
    }
    job.print_done(Some(&format!(
        "killed: process {} had not stopped in time",
        master.pid()
    )));
    Ok(Exit::Done)
}

/// `wait --gone`. Done at once where nothing runs.
pub(super) fn wait_gone(job: &Job) -> Result<Exit> {
    loop {
        let gone = match job.target.master(job.deadline) {
            Err(error) if error.exit == Exit::NotRunning => true,
            Err(error) => return Err(job.explain_timeout(error)),
            Ok(Some(master)) => {
                job.display
                    .show_wait(&format!("waiting for process {}", master.pid()));
                if !job.wait_gone(&master, job.deadline)? {
                    return Err(job.timed_out(&format!("process {} still runs", master.pid())));
                }
                true
            }
            Ok(None) => false,
        };
        if gone {
            job.print_done(Some("gone"));
            return job.print_result(&json!({ "ok": true }), "");
        }
        if job
            .deadline
            .is_some_and(|deadline| deadline <= clock::now())
        {
            return Err(job.timed_out("the master still runs"));
        }
        clock::pause(FOREIGN_POLL_INTERVAL);
    }
}

/// `pid`: the pid of the running master, which holds the lock. Never just the number in a file.
pub(super) fn pid(job: &Job) -> Result<Exit> {
    let Some(master) = job
        .target
        .master(job.deadline)
        .map_err(|error| job.explain_timeout(error))?
    else {
        return Err(Error::new(
            Exit::Refused,
            "the master lives in another pid namespace",
            "it has no pid here",
        ));
    };
    let pid = master.pid();
    job.print_result(&json!({ "ok": true, "pid": pid }), &format!("{pid}\n"))
}
