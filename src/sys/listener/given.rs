//! Taking over the listeners that the environment speaks of, in whatever protocol.

use std::ffi::OsString;
use std::os::fd::RawFd;

use super::Listener;
use crate::error::{Error, Result};
use crate::sys::io::fd;
use crate::wire::exports::{self, Claim, Protocol};
use crate::wire::listen_env::{self, Inheritance};

/// What was taken over.
#[derive(Debug, Default)]
pub struct Given {
    /// The listeners, each once: those that `LISTEN_FDS` names first, with their names, then those of the other protocols, in their order.
    pub listeners: Vec<Listener>,
    /// The protocols that spoke of any, besides systemd's.
    pub protocols: Vec<Protocol>,
}

/// Takes over the listeners of an environment, which `lookup` finds. To be called once, before this process opens anything; the variables
/// stay as they are. `own` and `parent`: the pids that the environment speaks of, ours (`LISTEN_PID`) and our parent's (`EINHORN_MASTER_PID`; None if
/// that is not known any more). `log` hears what is ignored, and why.
///
/// Only `LISTEN_FDS` says for sure whom it is meant for, so only there a descriptor that is none is an error. What the others say may be a left-over: it counts
/// if each descriptor is a listener, bound as it is said to be, and is ignored otherwise.
///
/// # Errors
/// Exit 111: `LISTEN_FDS` or its sisters are malformed, or a descriptor that they name is not open or no socket.
pub fn given(
    lookup: impl Fn(&str) -> Option<OsString>,
    own: u32,
    parent: Option<u32>,
    log: &mut dyn FnMut(String),
) -> Result<Given> {
    let said = listen_env::parse(&lookup, own);
    let listeners = match said.map_err(|error| Error::system("cannot inherit listeners", error))? {
        Inheritance::None => Vec::new(),
        Inheritance::ForAnotherProcess { pid } => {
            log(format!(
                "LISTEN_FDS is ignored: it is meant for pid {pid}, and this is pid {own} (a shell in the chain that did not exec?)"
            ));
            Vec::new()
        }
        Inheritance::Inherited { count, names } => super::inherited(count, &names)?,
    };
    let mut given = Given {
        listeners,
        protocols: Vec::new(),
    };
    for protocol in Protocol::ALL {
        let taken = exports::read(protocol, &lookup, parent)
            .and_then(|claims| take(&given.listeners, protocol, &claims));
        match taken {
            Ok(None) => {}
            Ok(Some(more)) => {
                given.listeners.extend(more);
                given.protocols.push(protocol);
            }
            Err(why) => log(why),
        }
    }
    Ok(given)
}

/// Those that `claims` speak of and that are not `held` already; None if they speak of none.
fn take(
    held: &[Listener],
    protocol: Protocol,
    claims: &[Claim],
) -> std::result::Result<Option<Vec<Listener>>, String> {
    if claims.is_empty() {
        return Ok(None);
    }
    let variable = protocol.variable();
    let ignored = |why: String| format!("{variable} is ignored: {why}");
    let mut numbers: Vec<RawFd> = Vec::new();
    // All of them are looked at before the first is taken.
    for claim in claims {
        let known = held
            .iter()
            .find(|listener| listener.source == Some(claim.fd));
        let agrees = |listener: &Listener| {
            let address = claim.address.as_deref();
            address.is_none_or(|address| exports::address_matches(address, &listener.address))
        };
        let agreed = match known {
            Some(listener) => agrees(listener),
            None => {
                let listener = look_at(claim.fd).map_err(ignored)?;
                if !numbers.contains(&claim.fd) {
                    numbers.push(claim.fd);
                }
                agrees(&listener)
            }
        };
        if !agreed {
            let fd = claim.fd;
            return Err(ignored(format!("fd {fd} is bound elsewhere than it says")));
        }
    }
    let taken = numbers.iter().map(|number| {
        let what = format!("fd {number}, which {variable} names,");
        let fd = fd::adopt(*number)?;
        Listener::inspect(fd, None, Some(*number), &what)
    });
    let taken = taken.collect::<Result<_>>();
    taken.map(Some).map_err(|error| ignored(error.to_string()))
}

/// A copy of what is open there, if it is a listener that was left open for us.
fn look_at(number: RawFd) -> std::result::Result<Listener, String> {
    let not_open = || format!("fd {number} is not open");
    if !fd::survives_exec(number) {
        return Err(not_open());
    }
    let copy = fd::duplicate(number).map_err(|_| not_open())?;
    let listener = Listener::inspect(copy, None, None, "it")
        .map_err(|_| format!("fd {number} is not a socket"))?;
    if !listener.is_listener() {
        return Err(format!("fd {number} is a connection"));
    }
    Ok(listener)
}
