//! Addresses as people write them: `[NAME=]ADDRESS[,OPTION[=VALUE]]...`.
//!
//! A comma within a path is written `\,` and a backslash `\\` (a backslash before anything else stands for itself).
//!
//! `NAME=` is told from an address that has a `=` in its path by its characters: a name has neither `:`, `/`
//! nor `@`, and every form of address has one of these before a `=` could come.

mod bound;
mod host;
mod name;
mod options;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

pub use bound::Bound;
pub use host::{Endpoint, Host, Port};
pub use name::Name;
pub use options::Options;
pub use parse::MAX_UNIX;

/// The CID that stands for every CID of this machine (`VMADDR_CID_ANY`).
pub const VSOCK_ANY: u32 = u32::MAX;

/// What kind of messages a Unix socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Datagram,
    /// `SOCK_SEQPACKET`.
    Seqpacket,
}

impl Kind {
    /// Whether sockets of this kind listen and accept.
    pub const fn listens(self) -> bool {
        !matches!(self, Kind::Datagram)
    }

    /// The scheme of a Unix socket of this kind.
    pub const fn unix_scheme(self) -> &'static str {
        match self {
            Kind::Stream => "unix",
            Kind::Datagram => "unixgram",
            Kind::Seqpacket => "unixseq",
        }
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket for each address of the host.
    Tcp(Endpoint),
    /// A UDP socket for each address of the host.
    Udp(Endpoint),
    /// A Unix socket at a path, which may be relative to the working directory.
    Unix(Kind, PathBuf),
    /// A Unix socket in Linux's abstract namespace.
    Abstract(Kind, String),
    /// A Linux vsock stream socket.
    Vsock {
        /// The context id; [`VSOCK_ANY`] for every one of this machine.
        cid: u32,
        /// The port; 0 for one that the system chooses.
        port: u32,
    },
    /// A socket that is already open, as this descriptor.
    Fd(i32),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(at) => write!(f, "tcp:{at}"),
            Address::Udp(at) => write!(f, "udp:{at}"),
            Address::Unix(kind, path) => write!(f, "{}:{}", kind.unix_scheme(), escape_path(path)),
            Address::Abstract(kind, name) => write!(f, "{}:@{}", kind.unix_scheme(), escape(name)),
            Address::Vsock {
                cid: VSOCK_ANY,
                port,
            } => write!(f, "vsock::{port}"),
            Address::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Address::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// One listener, or several of one address, as asked for. Parses from and displays as the grammar above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSpec {
    /// What the listener is to be called.
    pub name: Option<Name>,
    /// Where.
    pub address: Address,
    /// How. That each option fits the address has been checked.
    pub options: Options,
}

impl fmt::Display for ListenSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{name}=")?;
        }
        write!(f, "{}{}", self.address, self.options)
    }
}

/// Makes text safe to stand between the commas.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

/// The same for a path. A path that is relative and begins with `@` must not be read as an abstract name.
fn escape_path(path: &std::path::Path) -> String {
    let text = escape(&path.to_string_lossy());
    if text.starts_with('@') {
        format!("./{text}")
    } else {
        text
    }
}
