//! Handing listeners on to the next program of a chain: its environment.

use std::ffi::{OsStr, OsString};

use crate::error::{Error, Result};
use crate::sys::listener::{Bound, Listener};
use crate::wire::address::Name;
use crate::wire::exports::{self, Protocol};
use crate::wire::listen_env::{self, FIRST_FD};

/// The environment of the next program: names and values.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// The variables that pass the listeners on in these protocols.
pub(super) fn exported(
    protocols: &[Protocol],
    listeners: &[Listener],
) -> Result<Vec<(String, OsString)>> {
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    exports::render(protocols, &addresses, FIRST_FD).map_err(Error::usage)
}

/// The environment of this process, with the variables for `listeners` in place of the inherited
/// ones.
pub(super) fn environment(
    listeners: &[Listener],
    exported: Vec<(String, OsString)>,
) -> Environment {
    let ours = |key: &OsStr| {
        listen_env::VARIABLES
            .iter()
            .any(|variable| key == *variable)
            || exports::is_listener_variable(key)
    };
    let mut environment: Environment = std::env::vars_os().filter(|(key, _)| !ours(key)).collect();
    let (count, names) = listen_env::render(
        listeners
            .iter()
            .map(|listener| listener.name.as_ref().map(Name::as_str)),
    );
    // exec keeps the pid. With --hold, the child replaces this value by its own pid.
    let pid = std::process::id().to_string();
    for (key, value) in [
        ("LISTEN_PID", pid),
        ("LISTEN_FDS", count),
        ("LISTEN_FDNAMES", names),
    ] {
        environment.push((key.into(), value.into()));
    }
    environment.extend(exported.into_iter().map(|(key, value)| (key.into(), value)));
    environment
}
