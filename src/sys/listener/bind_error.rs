//! Why a socket could not be bound, and whether another try makes sense.

use std::io;

use super::address_owner;
use crate::error::{Error, reason};
use crate::wire::address::Bound;

/// Why a socket could not be made.
#[derive(Debug)]
pub(super) enum BindError {
    /// Another socket has the address (EADDRINUSE). It may be free later: try again. The address,
    /// if it is worth a look which process holds it.
    InUse(Error, Option<Bound>),
    /// The machine does not have this address. Other addresses of the same host may do.
    Unavailable(Error),
    /// Another try would fail too.
    Other(Error),
}

impl BindError {
    pub(super) fn into_error(self) -> Error {
        match self {
            BindError::InUse(error, Some(at)) => with_owner(error, &at),
            BindError::InUse(error, None)
            | BindError::Unavailable(error)
            | BindError::Other(error) => error,
        }
    }

    /// The error without a look at all processes, which may take seconds: for a master, whose loop
    /// waits meanwhile.
    pub(super) fn into_error_at_once(self) -> Error {
        match self {
            BindError::InUse(error, _)
            | BindError::Unavailable(error)
            | BindError::Other(error) => error,
        }
    }

    /// The reason and what to do, from the errno of socket(2), bind(2) or listen(2).
    pub(super) fn from_io(at: &Bound, error: &io::Error) -> BindError {
        let failed = Error::system(format!("cannot bind {at}"), reason(error));
        match error.raw_os_error() {
            Some(nix::libc::EADDRINUSE) => in_use(at),
            Some(nix::libc::EADDRNOTAVAIL) => BindError::Unavailable(
                failed.hint("the machine does not have this address; see the option freebind"),
            ),
            Some(nix::libc::EAFNOSUPPORT) => BindError::Unavailable(failed),
            Some(nix::libc::EACCES) if at.port().is_some_and(|port| port < 1024) => {
                BindError::Other(failed.hint("ports below 1024 need root or CAP_NET_BIND_SERVICE"))
            }
            _ => BindError::Other(failed),
        }
    }
}

impl From<Error> for BindError {
    fn from(error: Error) -> Self {
        BindError::Other(error)
    }
}

/// The error for an address that is in use.
pub(super) fn in_use(at: &Bound) -> BindError {
    let failed = Error::system(
        format!("cannot bind {at}"),
        reason(io::Error::from_raw_os_error(nix::libc::EADDRINUSE)),
    );
    BindError::InUse(failed, Some(at.clone()))
}

/// The error with the process that holds the address, where this process may see that.
pub(super) fn with_owner(failed: Error, at: &Bound) -> Error {
    match address_owner::of(at) {
        Some(holder) => failed.hint(format!("held by {holder}")),
        None => failed,
    }
}
