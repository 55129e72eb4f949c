//! `add-fds` gives listeners to a master, `take-fds` becomes a program with those of a master.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::ask;
use super::cli::TakeFds;
use super::job::{Job, malformed_reply};
use super::output::PROGRAM;
use crate::cmd::hand_on::{Environment, environment, exported};
use crate::cmd::program::print_line;
use crate::driver::pin::is_ours;
use crate::error::{Error, Exit, Result};
use crate::sys::io::fd;
use crate::sys::listener::{self, Listener};
use crate::sys::process::exec;
use crate::wire::address::Name;
use crate::wire::control::ControlCommand;
use crate::wire::exports::Exports;
use crate::wire::handover;
use crate::wire::listen_env::{FIRST_FD, TAKEN_FROM};

/// The listeners that this process has inherited. Call it before this process opens anything.
///
/// # Errors
/// Exit 6: there is none.
pub(super) fn inherit() -> Result<Vec<Listener>> {
    let mut log = |line: String| print_line(PROGRAM, &line);
    let inherited = listener::inherit(
        |key| std::env::var_os(key),
        std::process::id(),
        Some(std::os::unix::process::parent_id()),
        &mut log,
    );
    let inherited = inherited.map_err(|error| Error {
        exit: Exit::Refused,
        ..error
    })?;
    if inherited.listeners.is_empty() {
        return Err(Error::new(Exit::Refused, "no listener is inherited", "")
            .hint("run it under pf-listen: pf-listen ADDRESS -- pf-ctl add-fds TARGET"));
    }
    Ok(inherited.listeners)
}

/// Gives the listeners to the master, and waits as for a reload.
pub(super) fn add(job: &Job, listeners: &[Listener]) -> Result<Exit> {
    let name = |listener: &Listener| listener.name.as_ref().map(Name::to_string);
    let command = ControlCommand::AddFds {
        names: Some(listeners.iter().map(name).collect()),
    };
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    ask::ask_with(job, command, &fds)
}

/// Takes copies of the master's listeners and becomes the command. Returns only if that failed.
pub(super) fn take(job: &Job, take: &TakeFds) -> Result<Exit> {
    let Some((program, rest)) = take.command.split_first() else {
        return Err(Error::usage("no COMMAND"));
    };
    let mut reach = job
        .target
        .reach(job.deadline)
        .map_err(|error| job.explain_timeout(error))?;
    let Some(mut connection) = reach.control.take() else {
        let what = job.target.no_control();
        return Err(Error::new(
            Exit::Refused,
            what,
            "only through it can listeners be taken",
        ));
    };
    connection.want_fds();
    let answered = job.exchange(&mut connection, ControlCommand::TakeFds)?;
    let (reply, _) = answered.ok_or_else(|| reach.unanswered(&connection))?;
    Job::failure_of(&reply)?;
    let described = reply.listeners.unwrap_or_default();
    let fds = connection.take_fds();
    if described.len() != fds.len() {
        let (names, come) = (described.len(), fds.len());
        let why = format!("it names {names} listeners, and {come} descriptors came with it");
        return Err(malformed_reply(&why));
    }
    let received = described.into_iter().zip(fds).map(|(described, fd)| {
        let known = handover::Listener {
            fd: fd.as_raw_fd(),
            name: described.name,
            source: None,
            backlog: described.backlog,
        };
        Listener::received(&known, fd)
    });
    let listeners = received.collect::<Result<Vec<_>>>()?;
    let exports = Exports::new(&take.export, &[]);
    let exported = exported(&exports.protocols(), &listeners)?;
    let mut environment = environment(&listeners, exported);
    leave_the_service(&mut environment);
    let master = reach.master.map(|master| master.pid().to_string());
    environment.extend(master.map(|pid| (TAKEN_FROM.into(), pid.into())));
    drop(connection);
    let fds: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
    fd::place_for_exec(fds, FIRST_FD)?;
    Err(exec::become_program(program, rest, environment))
}

/// A worker that runs this becomes a program that is no worker: what the variables of a worker name
/// is not its own.
fn leave_the_service(environment: &mut Environment) {
    let is = |name: &OsStr, known: &str| name == OsStr::new(known);
    environment.retain(|(name, _)| !is(name, TAKEN_FROM));
    if !environment
        .iter()
        .any(|(name, _)| is(name, "PF_MASTER_PID"))
    {
        return;
    }
    let mut page = environment
        .iter()
        .filter(|(name, _)| is(name, "PF_HEARTBEAT_FD"));
    if let Some(page) = page.find_map(|(_, number)| number.to_str()?.parse().ok()) {
        // One that is not open is none that the program could get.
        let _ = fd::set_cloexec(page, true);
    }
    let is_listen = |name: &OsStr| {
        ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]
            .iter()
            .any(|it| is(name, it))
    };
    let is_exported = |name: &OsStr| crate::wire::exports::is_listener_variable(name);
    environment.retain(|(name, _)| is_listen(name) || is_exported(name) || !is_ours(name));
}
