//! Binds the sockets that are missing, and tries again while an address is in use.

use std::time::Duration;

use super::bind_error::{BindError, with_owner};
use super::bound_socket::Listener;
use super::make_socket::make_socket;
use super::options::{self, Backlog};
use super::wanted::{At, Group, Want};
use crate::error::Result;
use crate::sys::machine::clock;
use crate::wire::address::Options;

/// How many ports the kernel may choose for a group, if another address of the group has the port
/// in use.
const PORT_CHOICES: u32 = 20;

/// Where lines for people go.
pub(super) type Log<'a> = &'a mut dyn FnMut(String);

/// What to do when an address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many more tries; `None` for ever.
    pub tries: Option<u32>,
    /// The time between two tries.
    pub delay: Duration,
}

impl Default for Retry {
    /// Five more tries, half a second apart (U3).
    fn default() -> Self {
        Retry {
            tries: Some(5),
            delay: Duration::from_millis(500),
        }
    }
}

impl Retry {
    /// One try only.
    pub const NONE: Retry = Retry {
        tries: Some(0),
        delay: Duration::ZERO,
    };
}

/// Binds the missing wants of a group, given by index.
pub(super) fn bind_missing(
    group: &mut Group,
    missing: &[usize],
    retry: &Retry,
    log: Log,
) -> Result<Vec<(usize, Listener)>> {
    let mut choices = 1;
    loop {
        match bind_once(group, missing, retry, log) {
            // The port that the kernel chose for the first address is in use at another address of
            // the group. Let it choose a new one.
            Err(BindError::InUse(..)) if choices < PORT_CHOICES && group.unsettle_port() => {
                choices += 1
            }
            done => return done.map_err(BindError::into_error),
        }
    }
}

fn bind_once(
    group: &mut Group,
    missing: &[usize],
    retry: &Retry,
    log: Log,
) -> Result<Vec<(usize, Listener)>, BindError> {
    let spec = group.spec;
    let backlog = Backlog::new(spec.options.backlog);
    let mut bound: Vec<(usize, Listener)> = vec![];
    let mut unavailable = None;
    for &index in missing {
        let Some(Want {
            at: At::Address(at),
            name,
            optional,
        }) = group.wants.get(index)
        else {
            continue;
        };
        // Do not wait for a port that the kernel chose in this run: any other port will do.
        let retry = if group.port_is_chosen {
            &Retry::NONE
        } else {
            retry
        };
        match retry_while_in_use(retry, log, || {
            make_socket(at, name.clone(), &spec.options, backlog)
        }) {
            Ok(listener) => {
                let port = listener.address.port();
                bound.push((index, listener));
                if let (Some(0), Some(port)) = (at.port(), port) {
                    group.settle_port(port);
                    group.port_is_chosen = true;
                }
            }
            Err(BindError::Unavailable(error)) if *optional => {
                log(format!("{error}; the host's other addresses are used"));
                unavailable = Some(error);
            }
            Err(failure) => return Err(failure),
        }
    }
    match unavailable {
        Some(error) if bound.is_empty() && missing.len() == group.wants.len() => {
            return Err(BindError::Unavailable(error));
        }
        _ => {}
    }
    if let Some((_, first)) = bound.first() {
        warn_of_shortfalls(first, &spec.options, backlog, log);
    }
    Ok(bound)
}

/// Calls `make`, and again after the delay while the address is in use.
fn retry_while_in_use(
    retry: &Retry,
    log: Log,
    mut make: impl FnMut() -> Result<Listener, BindError>,
) -> Result<Listener, BindError> {
    let mut tried = 0;
    loop {
        let error = match make() {
            Err(BindError::InUse(error, at)) if retry.tries.is_none_or(|tries| tried < tries) => {
                match at {
                    Some(at) => with_owner(error, &at),
                    None => error,
                }
            }
            done => return done,
        };
        tried += 1;
        let of = retry
            .tries
            .map_or_else(String::new, |tries| format!(" of {tries}"));
        log(format!(
            "{error}; trying again in {} ({tried}{of})",
            humantime::format_duration(retry.delay)
        ));
        clock::pause(retry.delay);
    }
}

/// Logs where the kernel allows less than was asked for: backlog and buffer sizes.
pub(super) fn warn_of_shortfalls(listener: &Listener, given: &Options, backlog: Backlog, log: Log) {
    let at = &listener.address;
    if let Some(asked) = backlog.shortfall() {
        let allowed = backlog.effective();
        log(format!(
            "{at}: a backlog of {asked} is asked for, {allowed} is what the system allows \
             (net.core.somaxconn)"
        ));
    }
    for line in options::shortfalls(&listener.fd, at, given) {
        log(line);
    }
}
