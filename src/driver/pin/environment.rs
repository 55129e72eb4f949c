//! The environment of a generation's workers: what the operator set, and the master's own
//! variables.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::{Environment, Pin, c_string};
use crate::error::{Error, Result};
use crate::model::ids::Generation;
use crate::model::policy::{Policy, Readiness};
use crate::sys::listener::{Bound, Listener};
use crate::wire::changes::{Changes, Text};
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
) -> Result<Vec<CString>> {
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
    let theirs = environment
        .iter()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    theirs
        .chain(ours)
        .map(|(name, value)| variable(name, value))
        .collect()
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

/// `base` with the variables of `set`, which win; of several settings of one name the last counts.
pub(super) fn merged(base: &Environment, set: &Environment) -> Environment {
    let mut merged: Environment = base
        .iter()
        .filter(|(name, _)| !set.iter().any(|(other, _)| other == name))
        .cloned()
        .collect();
    for (index, (name, value)) in set.iter().enumerate() {
        if !set[index + 1..].iter().any(|(later, _)| later == name) {
            merged.push((name.clone(), value.clone()));
        }
    }
    merged
}

/// The environment after `reload --set` and `--unset`, which overrule everything else.
pub(super) fn changed(environment: Environment, changes: &Changes) -> Environment {
    let touched = |name: &OsString| {
        let name = name.to_str();
        name.is_some_and(|name| changes.set.contains_key(name) || changes.unset.contains(name))
    };
    let set = changes.set.iter();
    environment
        .into_iter()
        .filter(|(name, _)| !touched(name))
        .chain(set.map(|(name, Text(value))| (name.into(), value.clone())))
        .collect()
}

/// The value of the variable `name`.
pub(super) fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.as_os_str())
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString> {
    let mut bytes = name.to_os_string().into_vec();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    c_string(OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn env_options_overrule_and_the_last_of_a_name_counts() {
        let base = environment(&[("A", "1"), ("B", "2")]);
        let set = environment(&[("B", "3"), ("C", "4"), ("B", "5")]);
        assert_eq!(
            merged(&base, &set),
            environment(&[("A", "1"), ("C", "4"), ("B", "5")])
        );
    }

    #[test]
    fn reload_changes_overrule_the_environment() {
        let changes: Changes =
            serde_json::from_str(r#"{"set":{"A":"2","N":"3"},"unset":["B"]}"#).expect("changes");
        let base = environment(&[("A", "1"), ("B", "2"), ("C", "3")]);
        assert_eq!(
            changed(base, &changes),
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
