//! Making one listening socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Bound, Listener};
use crate::error::{Error, reason};
use crate::sys::listener::address_owner;
use crate::sys::listener::options;
use crate::sys::listener::unix_path;
use crate::sys::listener::unix_path::Access;
use crate::wire::address::{Kind, Name, Options};

/// vsock's word for a port that the system chooses (`VMADDR_PORT_ANY`).
const VSOCK_PORT_ANY: u32 = u32::MAX;

/// Why a socket could not be made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody listens there: it may be free later.
    InUse(Error),
    /// The machine does not have such an address.
    Unavailable(Error),
    /// Trying again makes no sense.
    Other(Error),
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::InUse(error) | Failure::Unavailable(error) | Failure::Other(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

/// Binds at `at`, with `given` options, and listens. `backlog` is what is passed to listen(2).
pub(super) fn make(
    at: &Bound,
    name: Option<Name>,
    given: &Options,
    backlog: options::Backlog,
) -> Result<Listener, Failure> {
    let access = Access::of(given)?;
    let socket = open(at)?;
    options::before_bind(&socket, at, given)?;
    options::settle(&socket, at, given)?;
    match at {
        Bound::Unix(kind, path) => {
            let address = sockaddr(at)?;
            let listen = || {
                if kind.listens() {
                    socket.listen(backlog.argument())
                } else {
                    Ok(())
                }
            };
            unix_path::bind(path, *kind, &access, || socket.bind(&address), listen)?;
        }
        _ => {
            socket
                .bind(&sockaddr(at)?)
                .map_err(|error| refusal(at, &error))?;
            if at.listens() {
                socket
                    .listen(backlog.argument())
                    .map_err(|error| refusal(at, &error))?;
            }
        }
    }
    if given.nonblock {
        socket
            .set_nonblocking(true)
            .map_err(|error| refusal(at, &error))?;
    }
    let mut listener = Listener::inspect(OwnedFd::from(socket), name, None, &at.to_string())?;
    listener.backlog = at.listens().then(|| backlog.effective());
    Ok(listener)
}

fn open(at: &Bound) -> Result<Socket, Failure> {
    let (domain, kind) = match at {
        Bound::Tcp(at) => (Domain::for_address(*at), Type::STREAM),
        Bound::Udp(at) => (Domain::for_address(*at), Type::DGRAM),
        Bound::Unix(kind, _) | Bound::Abstract(kind, _) => (Domain::UNIX, unix_type(*kind)),
        Bound::Vsock { .. } => (Domain::VSOCK, Type::STREAM),
        Bound::Other { .. } => {
            return Err(Error::system(format!("cannot bind {at}"), "it has no address").into());
        }
    };
    Socket::new(domain, kind, None).map_err(|error| refusal(at, &error))
}

/// The socket type of a kind.
pub(crate) fn unix_type(kind: Kind) -> Type {
    match kind {
        Kind::Stream => Type::STREAM,
        Kind::Datagram => Type::DGRAM,
        Kind::Seqpacket => Type::SEQPACKET,
    }
}

fn sockaddr(at: &Bound) -> Result<SockAddr, Failure> {
    match at {
        Bound::Tcp(at) | Bound::Udp(at) => Ok(SockAddr::from(*at)),
        Bound::Unix(_, path) => SockAddr::unix(path).map_err(|error| refusal(at, &error)),
        Bound::Abstract(_, name) => {
            // A name that begins with NUL is an abstract one, by the system's own convention.
            let bytes = [b"\0", name.as_slice()].concat();
            SockAddr::unix(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
                .map_err(|error| refusal(at, &error))
        }
        Bound::Vsock { cid, port: 0 } => Ok(SockAddr::vsock(*cid, VSOCK_PORT_ANY)),
        Bound::Vsock { cid, port } => Ok(SockAddr::vsock(*cid, *port)),
        Bound::Other { .. } => {
            Err(Error::system(format!("cannot bind {at}"), "it has no address").into())
        }
    }
}

/// Why `at` could not be bound, as an error that tells what to do.
fn refusal(at: &Bound, error: &io::Error) -> Failure {
    let failed = Error::system(format!("cannot bind {at}"), reason(error));
    match error.raw_os_error() {
        Some(nix::libc::EADDRINUSE) => Failure::InUse(in_use(at)),
        Some(nix::libc::EADDRNOTAVAIL) => Failure::Unavailable(
            failed.hint("the machine does not have this address; see the option freebind"),
        ),
        Some(nix::libc::EAFNOSUPPORT) => Failure::Unavailable(failed),
        Some(nix::libc::EACCES) if at.port().is_some_and(|port| port < 1024) => {
            Failure::Other(failed.hint("ports below 1024 need root or CAP_NET_BIND_SERVICE"))
        }
        _ => Failure::Other(failed),
    }
}

/// `at` is in use: by whom, if that can be seen.
pub(crate) fn in_use(at: &Bound) -> Error {
    let failed = Error::system(
        format!("cannot bind {at}"),
        reason(io::Error::from_raw_os_error(nix::libc::EADDRINUSE)),
    );
    match address_owner::of(at) {
        Some(holder) => failed.hint(format!("held by {holder}")),
        None => failed,
    }
}

/// The address of a Unix path, for a probe.
pub(crate) fn path_address(path: &std::path::Path) -> io::Result<SockAddr> {
    if path.as_os_str().as_bytes().first() == Some(&0) {
        return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
    }
    SockAddr::unix(path)
}
