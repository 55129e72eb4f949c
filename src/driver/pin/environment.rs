//! The environment of a generation's workers: what the operator set, and the master's own
//! variables.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::{Pin, failed};
use crate::error::{Error, Result};
use crate::model::ids::Generation;
use crate::model::policy::{Policy, Readiness};
use crate::sys::listener::{Bound, Listener};
use crate::wire::changes::{Changes, Text};
use crate::wire::environment::Environment;
use crate::wire::exports::{self, Protocol};
use crate::wire::handover::{CHECK_FD, FAILED, STATE_FD};
use crate::wire::listen_env::{self, FIRST_FD};
use crate::wire::peer::LINK_FD;

/// The variables that differ from worker to worker: its slot and the address of its notification
/// socket. `ack_socket`: the path of einhorn's socket, where there is one.
pub(in crate::driver) fn own_env(
    pin: &Pin,
    slot: u32,
    notify: &str,
    ack_socket: Option<&Path>,
) -> Vec<CString> {
    let mut own: Vec<OsString> = vec![
        format!("PF_WORKER={slot}").into(),
        format!("NOTIFY_SOCKET={notify}").into(),
    ];
    if pin.exports.contains(&Protocol::Einhorn) {
        own.push(format!("EINHORN_CHILD_INDEX={slot}").into());
        own.extend(ack_socket.map(|path| {
            let mut variable = OsString::from("EINHORN_SOCK_PATH=");
            variable.push(path);
            variable
        }));
    }
    // None can hold a NUL byte: numbers, an address that we made, a path that is bound.
    own.into_iter()
        .filter_map(|variable| CString::new(variable.into_vec()).ok())
        .collect()
}

/// The variables that name the worker's own pid, which the child fills in after the fork.
pub(super) fn own_pid_in(policy: &Policy, listeners: &[Listener]) -> Vec<&'static str> {
    let mut names = Vec::new();
    if !listeners.is_empty() {
        names.push("LISTEN_PID");
    }
    if policy.timeout.is_some() {
        names.push("WATCHDOG_PID");
    }
    names
}

/// The number of the heartbeat page in workers: the first one after the listeners that is free.
pub(super) fn beat_fd(listeners: usize, ready: Readiness, keep: &[i32]) -> i32 {
    let first = FIRST_FD.saturating_add(i32::try_from(listeners).unwrap_or(i32::MAX));
    let free = |number: &i32| ready != Readiness::Fd(*number) && !keep.contains(number);
    (first..i32::MAX).find(free).unwrap_or(first)
}

/// The variables that all workers of a generation share.
///
/// # Errors
/// A byte that no exec can carry, a listener whose address a protocol cannot express.
pub(super) fn common_env(
    generation: Generation,
    policy: &Policy,
    environment: &Environment,
    listeners: &[Listener],
    protocols: &[Protocol],
    beat_fd: i32,
) -> Result<Environment> {
    let master = std::process::id().to_string();
    let mut own: Vec<(&str, String)> = vec![
        ("PF_GENERATION", generation.to_string()),
        ("PF_MASTER_PID", master.clone()),
        ("PF_HEARTBEAT_FD", beat_fd.to_string()),
    ];
    if let Some(timeout) = policy.timeout {
        own.push(("WATCHDOG_USEC", timeout.as_micros().to_string()));
    }
    if protocols.contains(&Protocol::Einhorn) {
        own.push(("EINHORN_MASTER_PID", master));
    }
    if protocols.contains(&Protocol::ServerStarter) {
        own.push(("SERVER_STARTER_GENERATION", generation.to_string()));
    }
    if !listeners.is_empty() {
        let names = listeners
            .iter()
            .map(|listener| listener.name.as_ref().map(|name| name.as_str()));
        let (count, names) = listen_env::render(names);
        own.push(("LISTEN_FDS", count));
        own.push(("LISTEN_FDNAMES", names));
    }
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    let exported = exports::render(protocols, &addresses, FIRST_FD).map_err(Error::usage)?;
    let exported = exported
        .iter()
        .map(|(name, value)| (OsStr::new(name), value.as_os_str()));
    let ours = own
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(value)))
        .chain(exported);
    let mut all = environment.clone();
    all.retain(|name| !is_ours(name));
    for (name, value) in ours {
        set(&mut all, name, value)?;
    }
    Ok(all)
}

/// Whether the variable belongs to the master. What the master itself was given of these protocols
/// is not meant for its workers, and a value that a user sets would contradict the master's.
pub fn is_ours(name: &OsStr) -> bool {
    const OURS: [&str; 9] = [
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "FDSTORE",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "PF_HEARTBEAT_FD",
    ];
    OURS.iter().any(|ours| name == OsStr::new(ours))
        || ["PF_WORKER", "PF_GENERATION", "PF_MASTER_PID", "PF_HOLD"]
            .iter()
            .chain(&[STATE_FD, CHECK_FD, FAILED, LINK_FD])
            .any(|ours| name == OsStr::new(ours))
        || exports::is_listener_variable(name)
        || exports::is_master_variable(name)
}

/// The environment after `reload --set` and `--unset`, which overrule everything else.
pub(super) fn changed(mut environment: Environment, changes: &Changes) -> Result<Environment> {
    environment.retain(|name| {
        let name = name.to_str();
        !name.is_some_and(|name| changes.set.contains_key(name) || changes.unset.contains(name))
    });
    for (name, Text(value)) in &changes.set {
        set(&mut environment, OsStr::new(name), value)?;
    }
    Ok(environment)
}

fn set(environment: &mut Environment, name: &OsStr, value: &OsStr) -> Result<()> {
    environment.push(name, value).map_err(|_| {
        let variable = [name, value].map(OsStr::to_string_lossy).join("=");
        failed(format!("'{variable}'"), "holds a NUL byte")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn reload_changes_overrule_the_environment() {
        let changes: Changes =
            serde_json::from_str(r#"{"set":{"A":"2","N":"3"},"unset":["B"]}"#).expect("changes");
        let base = environment(&[("A", "1"), ("B", "2"), ("C", "3")]);
        assert_eq!(
            changed(base, &changes).expect("no NUL"),
            environment(&[("C", "3"), ("A", "2"), ("N", "3")])
        );
    }

    #[test]
    fn heartbeat_page_takes_the_first_free_fd_after_listeners() {
        assert_eq!(beat_fd(2, Readiness::Auto, &[]), 5);
        assert_eq!(beat_fd(2, Readiness::Fd(5), &[6, 8]), 7);
        assert_eq!(beat_fd(2, Readiness::Fd(9), &[]), 5);
    }
}
