//! Where a socket is bound, as the kernel reports it (getsockname(2)).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Kind, VSOCK_ANY, escape, escape_path};

/// The address of a bound socket. Two sockets with equal ones listen at the same address. Displays
/// in the grammar of addresses, with the real port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A Unix path.
    Unix(Kind, PathBuf),
    /// A name in Linux's abstract namespace: any bytes, see unix(7).
    Abstract(Kind, Vec<u8>),
    /// Linux vsock.
    Vsock {
        /// The context id.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A socket of another family, or without an address: it can be passed on, but no address of
    /// the grammar names it.
    Other {
        /// The inode, which no other socket has.
        inode: u64,
    },
}

impl Bound {
    /// The port, if this is a TCP or UDP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Bound::Tcp(at) | Bound::Udp(at) => Some(at.port()),
            _ => None,
        }
    }

    /// The same address with another port; addresses of other families stay as they are.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Bound {
        if let Bound::Tcp(at) | Bound::Udp(at) = &mut self {
            at.set_port(port);
        }
        self
    }

    /// Whether a socket at this address listens and accepts.
    pub fn listens(&self) -> bool {
        match self {
            Bound::Tcp(_) | Bound::Vsock { .. } => true,
            Bound::Udp(_) | Bound::Other { .. } => false,
            Bound::Unix(kind, _) | Bound::Abstract(kind, _) => kind.listens(),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path may hold control characters; the output must stay one line.
        let line = |text: String| text.replace(char::is_control, "?");
        match self {
            Bound::Tcp(at) => write!(f, "tcp:{at}"),
            Bound::Udp(at) => write!(f, "udp:{at}"),
            Bound::Unix(kind, path) => {
                write!(f, "{}:{}", kind.unix_scheme(), line(escape_path(path)))
            }
            Bound::Abstract(kind, name) => {
                write!(
                    f,
                    "{}:@{}",
                    kind.unix_scheme(),
                    line(escape(&String::from_utf8_lossy(name)))
                )
            }
            Bound::Vsock {
                cid: VSOCK_ANY,
                port,
            } => write!(f, "vsock::{port}"),
            Bound::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
            Bound::Other { inode } => write!(f, "socket:[{inode}]"),
        }
    }
}
