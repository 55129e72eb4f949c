//! Makes one listening socket: options, bind(2), listen(2).

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use super::bind_error::BindError;
use super::bound_socket::Listener;
use super::options::{self, Backlog};
use super::unix_path::{self, Access, unix_type};
use crate::error::Error;
use crate::wire::address::{Bound, Name, Options};

/// The vsock number for "the kernel chooses the port" (`VMADDR_PORT_ANY`, see vsock(7)).
const VSOCK_PORT_ANY: u32 = u32::MAX;

/// Binds a socket at `at` with the options `given`, and listens with `backlog`.
pub(super) fn make_socket(
    at: &Bound,
    name: Option<Name>,
    given: &Options,
    backlog: Backlog,
) -> Result<Listener, BindError> {
    let failed = |error: std::io::Error| BindError::from_io(at, &error);
    let access = Access::of(given)?;
    let socket = open(at)?;
    options::set_before_bind(&socket, at, given)?;
    options::set_any_time(&socket, at, given)?;
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
            socket.bind(&sockaddr(at)?).map_err(failed)?;
            if at.listens() {
                socket.listen(backlog.argument()).map_err(failed)?;
            }
        }
    }
    if given.nonblock {
        socket.set_nonblocking(true).map_err(failed)?;
    }
    let mut listener = Listener::inspect(OwnedFd::from(socket), name, None, &at.to_string())?;
    listener.backlog = at.listens().then(|| backlog.effective());
    Ok(listener)
}

fn open(at: &Bound) -> Result<Socket, BindError> {
    let (domain, kind) = match at {
        Bound::Tcp(at) => (Domain::for_address(*at), Type::STREAM),
        Bound::Udp(at) => (Domain::for_address(*at), Type::DGRAM),
        Bound::Unix(kind, _) | Bound::Abstract(kind, _) => (Domain::UNIX, unix_type(*kind)),
        Bound::Vsock { .. } => (Domain::VSOCK, Type::STREAM),
        Bound::Other { .. } => return Err(no_address(at)),
    };
    Socket::new(domain, kind, None).map_err(|error| BindError::from_io(at, &error))
}

fn sockaddr(at: &Bound) -> Result<SockAddr, BindError> {
    match at {
        Bound::Tcp(at) | Bound::Udp(at) => Ok(SockAddr::from(*at)),
        Bound::Unix(_, path) => {
            SockAddr::unix(path).map_err(|error| BindError::from_io(at, &error))
        }
        Bound::Abstract(_, name) => {
            // A name whose first byte is NUL is an abstract address: see unix(7).
            let bytes = [b"\0", name.as_slice()].concat();
            SockAddr::unix(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
                .map_err(|error| BindError::from_io(at, &error))
        }
        Bound::Vsock { cid, port: 0 } => Ok(SockAddr::vsock(*cid, VSOCK_PORT_ANY)),
        Bound::Vsock { cid, port } => Ok(SockAddr::vsock(*cid, *port)),
        Bound::Other { .. } => Err(no_address(at)),
    }
}

fn no_address(at: &Bound) -> BindError {
    Error::system(format!("cannot bind {at}"), "it has no address").into()
}
