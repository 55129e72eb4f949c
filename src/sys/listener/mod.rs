//! Listeners: bound sockets that are passed on by descriptor.
//!
//! [`given`](given()) takes over what a parent passed, [`arrange`] brings that in line with the addresses that are asked for, [`bind`] makes new
//! ones. None of them knows who calls: `pf-listen` before it executes the next program, or a master that goes on running.

pub mod accept_queue;
pub mod address_owner;
mod arrange;
mod assign;
mod given;
mod mend;
pub mod options;
pub mod shared_accept;
mod socket;
pub mod unix_path;
mod wanted;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{GetSockOpt, sockopt};
use socket2::{Domain, Protocol, SockRef, Type};

use crate::error::{Error, Result};
pub use crate::wire::address::Bound;
use crate::wire::address::{Kind, ListenSpec, Name};
use crate::wire::handover;
use crate::wire::listen_env::{FIRST_FD, NAMELESS};

pub use arrange::arrange;
pub use given::{Given, given};
pub use mend::Mended;
pub(in crate::sys) use socket::{Failure, in_use, path_address, unix_type};

/// What to do when an address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many more tries; `None` for ever.
    pub tries: Option<u32>,
    /// The time between two.
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

/// A bound socket, which is close-on-exec until it is placed for the next program.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub fd: OwnedFd,
    /// What it is called.
    pub name: Option<Name>,
    /// Where it is bound.
    pub address: Bound,
    /// The descriptor that it was inherited as; `None` if it was bound here.
    pub source: Option<RawFd>,
    inode: u64,
    backlog: Option<u32>,
}

impl Listener {
    /// Looks at a socket. It is an error if `fd` is none; `what` is how it is called in that.
    pub fn inspect(
        fd: OwnedFd,
        name: Option<Name>,
        source: Option<RawFd>,
        what: &str,
    ) -> Result<Listener> {
        let not_a_socket = |error: std::io::Error| {
            let why = match error.raw_os_error() {
                Some(nix::libc::ENOTSOCK) => "it is not a socket".to_owned(),
                _ => crate::error::reason(&error),
            };
            Error::system(format!("cannot use {what} as a listener"), why)
        };
        let stat = nix::sys::stat::fstat(&fd).map_err(|errno| not_a_socket(errno.into()))?;
        let address = address_of(&fd, stat.st_ino).map_err(not_a_socket)?;
        Ok(Listener {
            fd,
            name,
            address,
            source,
            inode: stat.st_ino,
            backlog: None,
        })
    }

    /// For the next image of the master.
    pub fn handed_over(&self) -> handover::Listener {
        handover::Listener {
            fd: self.fd.as_raw_fd(),
            name: self.name.as_ref().map(Name::to_string),
            source: self.source,
            backlog: self.backlog,
        }
    }

    /// From the image before.
    ///
    /// # Errors
    /// The descriptor is not open, or no socket.
    pub fn taken_over(listener: &handover::Listener) -> Result<Listener> {
        let name = listener.name.as_deref().and_then(Name::inherited);
        let fd = super::io::fd::duplicate(listener.fd)?;
        let what = format!("fd {}, which was handed over,", listener.fd);
        let taken = Listener::inspect(fd, name, listener.source, &what)?;
        Ok(Listener {
            backlog: listener.backlog,
            ..taken
        })
    }

    /// The name, or the address of one without.
    pub fn label(&self) -> String {
        self.name
            .as_ref()
            .map_or_else(|| self.address.to_string(), Name::to_string)
    }

    /// The name as `LISTEN_FDNAMES` has it: `unknown` for none.
    pub fn env_name(&self) -> &str {
        self.name.as_ref().map_or(NAMELESS, Name::as_str)
    }

    /// The socket's inode, which is the same in every process that shares it, and no other socket's while it is open.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The effective backlog, in connections; `None` for one that does not listen, and where it was set by somebody else.
    pub fn backlog(&self) -> Option<u32> {
        self.backlog
    }

    /// The same socket once more, under another descriptor.
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

    /// Whether it accepts connections, or will once listen(2) is called; a connection, which was passed in its place, does not.
    fn is_listener(&self) -> bool {
        !self.address.listens() || self.accepts() || SockRef::from(&self.fd).peer_addr().is_err()
    }

    fn accepts(&self) -> bool {
        sockopt::AcceptConn.get(&self.fd).unwrap_or(false)
    }

    /// Whether its path in the file system has gone: then no client can reach it any more.
    pub fn is_unlinked(&self) -> bool {
        match &self.address {
            Bound::Unix(_, path) => !super::listener::unix_path::is_socket(path),
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

/// Binds what `spec` asks for: several sockets for a host of several addresses, and for `copies=N`. Waits for nobody, and says nothing about
/// values that the system caps; [`arrange`] does both.
pub fn bind(spec: &ListenSpec) -> Result<Vec<Listener>> {
    arrange(
        vec![],
        std::slice::from_ref(spec),
        false,
        &Retry::NONE,
        &mut |_| {},
    )
}

/// Whether the address can be understood on this machine: hosts, services, users and groups are looked up. Nothing is bound.
///
/// # Errors
/// What cannot be found.
pub fn check(spec: &ListenSpec) -> Result<()> {
    wanted::groups(std::slice::from_ref(spec))?;
    super::listener::unix_path::Access::of(&spec.options)?;
    Ok(())
}

/// Takes over the `count` listeners that stand at fd 3 and up, as `LISTEN_FDS` says, with the names of `LISTEN_FDNAMES` (or none). To be called
/// once, before this process opens anything. Each must be a socket.
pub fn inherited(count: usize, names: &[String]) -> Result<Vec<Listener>> {
    let take = |(index, fd): (usize, RawFd)| {
        let what = format!("fd {fd}, which LISTEN_FDS names,");
        let owned = super::io::fd::adopt(fd).map_err(|error| Error {
            hint: format!("LISTEN_FDS is {count}"),
            ..error
        })?;
        let name = names.get(index).and_then(|name| Name::inherited(name));
        Listener::inspect(owned, name, Some(fd), &what)
    };
    (FIRST_FD..).take(count).enumerate().map(take).collect()
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
