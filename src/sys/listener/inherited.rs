//! Takes over the listeners that the environment names, in any of the known protocols, and those
//! that a client of the master gives.

use std::ffi::OsString;
use std::os::fd::{OwnedFd, RawFd};

use socket2::{SockRef, Type};

use super::bound_socket::Listener;
use crate::error::{Error, Exit, Result, reason};
use crate::sys::io::fd;
use crate::wire::address::{Bound, Name};
use crate::wire::exports::{self, Claim, Protocol};
use crate::wire::listen_env::{self, FIRST_FD, Inheritance};

/// The listeners that were taken over.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Each listener once: first those of `LISTEN_FDS`, with their names, then those of the other
    /// protocols. Both parts are in the order of their variable.
    pub listeners: Vec<Listener>,
    /// The protocols, besides systemd's, whose variable is set, be it without a listener.
    pub protocols: Vec<Protocol>,
}

/// Takes over the listeners that the environment names. `lookup` finds a variable; the variables
/// stay as they are. Call it once, before this process opens any descriptor.
///
/// `own` is our pid, to be compared with `LISTEN_PID`. `parent` is our parent's pid, to be compared
/// with `EINHORN_MASTER_PID`; `None` if it is not known any more. `log` gets one line for each
/// variable that is ignored, with the reason.
///
/// Only `LISTEN_FDS` names the process that it is meant for (`LISTEN_PID`). So only there a
/// descriptor that is not a socket is an error. The variables of the other protocols may be a
/// left-over: such a variable counts if each descriptor is a listener that is bound where the
/// variable says, and is ignored otherwise.
///
/// # Errors
/// Exit 111: `LISTEN_FDS`, `LISTEN_PID` or `LISTEN_FDNAMES` is malformed, or a descriptor that
/// `LISTEN_FDS` names is not open or not a socket.
pub fn inherit(
    lookup: impl Fn(&str) -> Option<OsString>,
    own: u32,
    parent: Option<u32>,
    log: &mut dyn FnMut(String),
) -> Result<Inherited> {
    let said = listen_env::parse(&lookup, own);
    let listeners = match said.map_err(|error| Error::system("cannot inherit listeners", error))? {
        Inheritance::None => Vec::new(),
        Inheritance::ForAnotherProcess { pid } => {
            log(format!(
                "LISTEN_FDS is ignored: it is meant for pid {pid}, and this is pid {own} (a shell \
                 in the chain that did not exec?)"
            ));
            Vec::new()
        }
        Inheritance::Inherited { count, names } => inherit_listen_fds(count, &names)?,
    };
    let mut inherited = Inherited {
        listeners,
        protocols: Vec::new(),
    };
    for protocol in Protocol::ALL {
        let taken = exports::read(protocol, &lookup, parent).and_then(|claims| {
            let take = |claims: Vec<Claim>| take_claimed(&inherited.listeners, protocol, &claims);
            claims.map(take).transpose()
        });
        match taken {
            Ok(None) => {}
            Ok(Some(more)) => {
                inherited.listeners.extend(more);
                inherited.protocols.push(protocol);
            }
            Err(why) => log(why),
        }
    }
    Ok(inherited)
}

/// Takes over the `count` listeners at fd 3 and up, as `LISTEN_FDS` counts them. `names` are those
/// of `LISTEN_FDNAMES`; they may be missing. Call it once, before this process opens any
/// descriptor.
///
/// # Errors
/// Exit 111: a descriptor is not open, or not a socket.
pub fn inherit_listen_fds(count: usize, names: &[String]) -> Result<Vec<Listener>> {
    let take = |(index, fd): (usize, RawFd)| {
        let what = format!("fd {fd}, which LISTEN_FDS names,");
        let owned = fd::adopt(fd).map_err(|error| Error {
            hint: format!("LISTEN_FDS is {count}"),
            ..error
        })?;
        let name = names.get(index).and_then(|name| Name::inherited(name));
        Listener::inspect(owned, name, Some(fd), &what)
    };
    (FIRST_FD..).take(count).enumerate().map(take).collect()
}

/// Takes over the listeners of `claims` that are not in `held` yet.
fn take_claimed(
    held: &[Listener],
    protocol: Protocol,
    claims: &[Claim],
) -> std::result::Result<Vec<Listener>, String> {
    let variable = protocol.variable();
    let ignored = |why: String| format!("{variable} is ignored: {why}");
    let mut numbers: Vec<RawFd> = Vec::new();
    // Check all claims before taking the first: one wrong claim makes the whole variable invalid,
    // and a descriptor that was taken would be closed on the error.
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
                let listener = inspect_copy(claim.fd).map_err(ignored)?;
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
    taken.map_err(|error| ignored(error.to_string()))
}

/// A copy of the listener at `number`, which our parent must have left open for us.
fn inspect_copy(number: RawFd) -> std::result::Result<Listener, String> {
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

/// The listener that a client gives.
///
/// # Errors
/// Exit 6: it is no socket; a stream socket that does not listen; a datagram socket that is bound
/// nowhere, or connected to one peer. `number`: which of the client's descriptors, from 1 on.
pub fn check_given(fd: OwnedFd, name: Option<&str>, number: usize) -> Result<Listener> {
    let refused = |why: &str| {
        let what = format!("descriptor {number} of the request is no listener");
        Error::new(Exit::Refused, what, why)
    };
    let name = match name {
        None => None,
        Some(text) => Some(Name::inherited(text).ok_or_else(|| {
            let what = format!("'{}' is not a listener's name", text.escape_debug());
            Error::new(Exit::Refused, what, "")
        })?),
    };
    let listener = Listener::inspect(fd, name, None, "it").map_err(|error| refused(&error.why))?;
    let kind = SockRef::from(&listener.fd).r#type();
    let kind = kind.map_err(|error| refused(&reason(error)))?;
    let connects = kind == Type::STREAM || kind == Type::SEQPACKET;
    if connects && !listener.accepts() {
        return Err(refused(&format!("{} does not listen", listener.address)));
    }
    if connects {
        return Ok(listener);
    }
    let is_bound = match &listener.address {
        Bound::Udp(at) => at.port() != 0,
        Bound::Unix(..) | Bound::Abstract(..) => true,
        Bound::Tcp(_) | Bound::Vsock { .. } | Bound::Other { .. } => false,
    };
    if !is_bound {
        return Err(refused("the socket is bound to no address"));
    }
    if !listener.still_listens() {
        return Err(refused(&format!("{} is connected", listener.address)));
    }
    Ok(listener)
}
