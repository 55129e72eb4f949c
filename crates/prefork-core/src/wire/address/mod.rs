//! Addresses as people write them: `[NAME=]ADDRESS[,OPTION[=VALUE]]...`, see pf-listen(1).
//!
//! In reading order:
//!
//! - [`ListenSpec`]: one argument of `pf-listen`, that is a [`Name`], an [`Address`] and
//!   [`Options`]. It parses from this grammar (`parse.rs`) and displays in it.
//! - [`Address`]: where to listen; [`Endpoint`] is its host and port (`host.rs`).
//! - [`Options`]: how to listen, and which option fits which family (`options.rs`).
//! - [`size::Size`]: a number of bytes, as `512K` (`size`).
//! - [`Bound`]: where a socket is bound, as the kernel reports it; displays in the same grammar.
//!
//! In a path a comma is written `\,` and a backslash `\\`; a backslash before any other character
//! stands for itself.
//!
//! A path may hold a `=`, and still `NAME=` is not ambiguous: a name has no `:`, `/` or `@`, and
//! every form of address has one of these before a `=` can come.

mod bound;
mod host;
mod name;
mod options;
mod parse;
pub mod size;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

pub use bound::Bound;
pub use host::{Endpoint, Host, Port};
pub use name::Name;
pub use options::Options;
pub use parse::MAX_UNIX;

/// The vsock CID that means every CID of this machine (`VMADDR_CID_ANY`, vsock(7)).
pub const VSOCK_ANY: u32 = u32::MAX;

/// The type of a Unix socket.
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
    /// Whether sockets of this type listen and accept.
    pub const fn listens(self) -> bool {
        !matches!(self, Kind::Datagram)
    }

    /// The scheme of a Unix socket of this type.
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
        /// The context id; [`VSOCK_ANY`] means every CID of this machine.
        cid: u32,
        /// The port; 0 means one that the kernel chooses.
        port: u32,
    },
    /// A socket that is already open as this descriptor.
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

/// One listener, or several of one address (`copies=N`), as asked for. Parses from the grammar
/// above, and displays in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSpec {
    /// The listener's name.
    pub name: Option<Name>,
    /// Where to listen.
    pub address: Address,
    /// How to listen. The parser has checked that each option fits the address.
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

/// Escapes text that is to stand between commas.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

/// Escapes a path. A relative path that begins with `@` gets `./` in front, or it would be read as
/// an abstract name.
fn escape_path(path: &std::path::Path) -> String {
    let text = escape(&path.to_string_lossy());
    if text.starts_with('@') {
        format!("./{text}")
    } else {
        text
    }
}
