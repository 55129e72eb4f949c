//! [`Listener`]: one bound socket, with its name and its address.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{GetSockOpt, sockopt};
use socket2::{Domain, Protocol, SockRef, Type};

use super::unix_path;
use crate::error::{Error, Result};
use crate::sys::io::left_open::LeftOpen;
use crate::wire::address::{Bound, Kind, Name};
use crate::wire::handover;
use crate::wire::listen_env::NAMELESS;

/// A bound socket. It is close-on-exec until it is placed for the next program.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub fd: OwnedFd,
    /// The name from the command line, the config or `LISTEN_FDNAMES`.
    pub name: Option<Name>,
    /// Where it is bound.
    pub address: Bound,
    /// The number under which the descriptor was inherited; `None` if it was bound here.
    pub source: Option<RawFd>,
    inode: u64,
    pub(super) backlog: Option<u32>,
}

impl Listener {
    /// Reads the address of the socket `fd`. `what` names the descriptor in the error.
    ///
    /// # Errors
    /// Exit 111: `fd` is not a socket.
    pub fn inspect(
        fd: OwnedFd,
        name: Option<Name>,
        source: Option<RawFd>,
        what: &str,
    ) -> Result<Listener> {
        let (address, inode) = facts(&fd, what)?;
        Ok(Listener {
            fd,
            name,
            address,
            source,
            inode,
            backlog: None,
        })
    }

    /// The state that the next image of the master gets.
    pub fn handed_over(&self) -> handover::Listener {
        handover::Listener {
            fd: self.fd.as_raw_fd(),
            name: self.name.as_ref().map(Name::to_string),
            source: self.source,
            backlog: self.backlog,
        }
    }

    /// The listener that the previous image of the master handed over. Its descriptor is never
    /// closed by a failure.
    ///
    /// # Errors
    /// The descriptor is not open, or it is not a socket.
    pub fn taken_over(listener: &handover::Listener, left: &mut LeftOpen) -> Result<Listener> {
        let what = format!("cannot take over fd {}", listener.fd);
        let fd = left.take(listener.fd);
        let fd = ManuallyDrop::new(fd.map_err(|error| Error::system(what, error))?);
        let facts = facts(&fd, &described(listener))?;
        Ok(Listener::of(listener, ManuallyDrop::into_inner(fd), facts))
    }

    /// The listener that another master has sent, by a descriptor of this process.
    ///
    /// # Errors
    /// It is not a socket.
    pub fn received(listener: &handover::Listener, fd: OwnedFd) -> Result<Listener> {
        let facts = facts(&fd, &described(listener))?;
        Ok(Listener::of(listener, fd, facts))
    }

    fn of(listener: &handover::Listener, fd: OwnedFd, (address, inode): (Bound, u64)) -> Listener {
        Listener {
            fd,
            name: listener.name.as_deref().and_then(Name::inherited),
            address,
            source: listener.source,
            inode,
            backlog: listener.backlog,
        }
    }

    /// The name, or the address if there is no name.
    pub fn label(&self) -> String {
        self.name
            .as_ref()
            .map_or_else(|| self.address.to_string(), Name::to_string)
    }

    /// The name as `LISTEN_FDNAMES` carries it: `unknown` if there is no name.
    pub fn env_name(&self) -> &str {
        self.name.as_ref().map_or(NAMELESS, Name::as_str)
    }

    /// The inode of the socket. It is the same in every process that shares the socket, and no
    /// other socket has it while this one is open.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The effective backlog, in connections. `None` if the socket does not listen, or if another
    /// process set the backlog.
    pub fn backlog(&self) -> Option<u32> {
        self.backlog
    }

    /// The same socket under another descriptor.
    ///
    /// # Errors
    /// What fcntl(2) said: EMFILE.
    pub fn try_clone(&self) -> Result<Listener> {
        let copied = self.fd.try_clone();
        let fd = copied.map_err(|error| {
            Error::system(
                format!("cannot duplicate listener {}", self.label()),
                crate::error::reason(&error),
            )
        })?;
        Ok(Listener {
            fd,
            name: self.name.clone(),
            address: self.address.clone(),
            ..*self
        })
    }

    /// This listener, by the descriptor of another one of the same socket.
    pub fn with_fd_of(self, same: Listener) -> Listener {
        Listener {
            fd: same.fd,
            ..self
        }
    }

    /// Whether the socket accepts connections, or will do so after listen(2). It is false for a
    /// connection that was passed in place of a listener.
    pub(super) fn is_listener(&self) -> bool {
        !self.address.listens() || self.accepts() || SockRef::from(&self.fd).peer_addr().is_err()
    }

    /// Whether listen(2) was called on the socket (SO_ACCEPTCONN).
    pub(super) fn accepts(&self) -> bool {
        sockopt::AcceptConn.get(&self.fd).unwrap_or(false)
    }

    /// Whether its path in the file system is gone: then no client can reach it any more.
    pub fn is_unlinked(&self) -> bool {
        match &self.address {
            Bound::Unix(_, path) => !unix_path::is_socket(path),
            _ => false,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.fd
    }
}

fn described(listener: &handover::Listener) -> String {
    format!("fd {}, which was handed over,", listener.fd)
}

/// Where the socket is bound, and its inode. `what` names the descriptor in the error.
fn facts(fd: &OwnedFd, what: &str) -> Result<(Bound, u64)> {
    let not_a_socket = |error: std::io::Error| {
        let why = match error.raw_os_error() {
            Some(nix::libc::ENOTSOCK) => "it is not a socket".to_owned(),
            _ => crate::error::reason(&error),
        };
        Error::system(format!("cannot use {what} as a listener"), why)
    };
    let stat = nix::sys::stat::fstat(fd).map_err(|errno| not_a_socket(errno.into()))?;
    let address = address_of(fd, stat.st_ino).map_err(not_a_socket)?;
    Ok((address, stat.st_ino))
}

fn address_of(fd: &OwnedFd, inode: u64) -> std::io::Result<Bound> {
    let socket = SockRef::from(fd);
    let (domain, kind, protocol) = (socket.domain()?, socket.r#type()?, socket.protocol()?);
    let local = socket.local_addr()?;
    let other = Bound::Other { inode };
    if let Some(at) = local.as_socket() {
        return Ok(match (kind, protocol) {
            (Type::STREAM, Some(Protocol::TCP | Protocol::MPTCP)) => Bound::Tcp(at),
            (Type::DGRAM, Some(Protocol::UDP)) => Bound::Udp(at),
            _ => other,
        });
    }
    if let Some((cid, port)) = local.as_vsock_address() {
        return Ok(if kind == Type::STREAM {
            Bound::Vsock { cid, port }
        } else {
            other
        });
    }
    let kind = match kind {
        Type::STREAM => Kind::Stream,
        Type::DGRAM => Kind::Datagram,
        Type::SEQPACKET => Kind::Seqpacket,
        _ => return Ok(other),
    };
    let path = local
        .as_pathname()
        .map(|path| Bound::Unix(kind, path.to_owned()));
    let name = local
        .as_abstract_namespace()
        .map(|name| Bound::Abstract(kind, name.to_owned()));
    Ok(if domain == Domain::UNIX {
        path.or(name).unwrap_or(other)
    } else {
        other
    })
}
