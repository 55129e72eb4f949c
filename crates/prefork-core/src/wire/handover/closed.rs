//! Listeners that an earlier release had and that are closed: what a rollback binds anew.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::wire::address::{Bound, Kind};
use crate::wire::text::Text;

/// A listener that is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedListener {
    /// Its name.
    pub name: Option<String>,
    /// Where it was bound.
    pub at: At,
    /// How it was bound, as in an address: `,backlog=5,nodelay`.
    #[serde(default)]
    pub options: String,
    /// The descriptor that it was inherited as at the first start.
    #[serde(default)]
    pub source: Option<i32>,
}

/// An address, as JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// TCP.
    Tcp(SocketAddr),
    /// UDP.
    Udp(SocketAddr),
    /// A Unix stream socket at a path.
    Unix(Text),
    /// A Unix datagram socket.
    Unixgram(Text),
    /// A Unix seqpacket socket.
    Unixseq(Text),
    /// A Unix stream socket in the abstract namespace.
    Abstract(Text),
    /// A datagram socket there.
    AbstractGram(Text),
    /// A seqpacket socket there.
    AbstractSeq(Text),
    /// Linux vsock: context id and port.
    Vsock(u32, u32),
    /// A socket without an address: its inode. It cannot be bound anew.
    Other(u64),
}

impl From<&Bound> for At {
    fn from(bound: &Bound) -> Self {
        match bound {
            Bound::Tcp(at) => At::Tcp(*at),
            Bound::Udp(at) => At::Udp(*at),
            Bound::Unix(kind, path) => {
                let path = path.as_path().into();
                match kind {
                    Kind::Stream => At::Unix(path),
                    Kind::Datagram => At::Unixgram(path),
                    Kind::Seqpacket => At::Unixseq(path),
                }
            }
            Bound::Abstract(kind, name) => {
                let name = name.clone().into();
                match kind {
                    Kind::Stream => At::Abstract(name),
                    Kind::Datagram => At::AbstractGram(name),
                    Kind::Seqpacket => At::AbstractSeq(name),
                }
            }
            Bound::Vsock { cid, port } => At::Vsock(*cid, *port),
            Bound::Other { inode } => At::Other(*inode),
        }
    }
}

impl From<At> for Bound {
    fn from(at: At) -> Self {
        match at {
            At::Tcp(at) => Bound::Tcp(at),
            At::Udp(at) => Bound::Udp(at),
            At::Unix(path) => Bound::Unix(Kind::Stream, path.into_path()),
            At::Unixgram(path) => Bound::Unix(Kind::Datagram, path.into_path()),
            At::Unixseq(path) => Bound::Unix(Kind::Seqpacket, path.into_path()),
            At::Abstract(name) => Bound::Abstract(Kind::Stream, name.into_bytes()),
            At::AbstractGram(name) => Bound::Abstract(Kind::Datagram, name.into_bytes()),
            At::AbstractSeq(name) => Bound::Abstract(Kind::Seqpacket, name.into_bytes()),
            At::Vsock(cid, port) => Bound::Vsock { cid, port },
            At::Other(inode) => Bound::Other { inode },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_comes_back() {
        let v6 = "[fe80::1%2]:80".parse().expect("an address");
        let all = [
            Bound::Tcp("127.0.0.1:80".parse().expect("an address")),
            Bound::Tcp(v6),
            Bound::Udp("[::1]:53".parse().expect("an address")),
            Bound::Vsock { cid: 3, port: 9 },
            Bound::Other { inode: 7 },
        ];
        let kinds = [Kind::Stream, Kind::Datagram, Kind::Seqpacket];
        let unix =
            kinds.map(|kind| Bound::Unix(kind, Text::from(b"/run/\xff,x".to_vec()).into_path()));
        let named = kinds.map(|kind| Bound::Abstract(kind, b"a\0\xff".to_vec()));
        for bound in all.into_iter().chain(unix).chain(named) {
            let written = serde_json::to_string(&At::from(&bound)).expect("written");
            let read: At = serde_json::from_str(&written).expect("read");
            assert_eq!(Bound::from(read), bound, "{written}");
        }
    }

    /// Later versions have to read this.
    #[test]
    fn what_this_version_writes_is_read() {
        let text =
            r#"{"name":"web","at":{"unix":"/run/x"},"options":",backlog=5,mode=0600","source":3}"#;
        let read: ClosedListener = serde_json::from_str(text).expect("read");
        assert_eq!(serde_json::to_string(&read).expect("written"), text);
        let text = r#"{"name":null,"at":{"tcp":"127.0.0.1:80"}}"#;
        let read: ClosedListener = serde_json::from_str(text).expect("read");
        assert_eq!((read.options.as_str(), read.source), ("", None));
    }

    #[test]
    fn options_come_back_as_they_are_displayed() {
        use crate::wire::address::{ListenSpec, Options};
        let spec = "tcp:127.0.0.1:80,backlog=5,reuseport,nodelay,defer-accept=3s,device=lo,mark=7";
        let options = spec.parse::<ListenSpec>().expect("an address").options;
        assert_eq!(options.to_string().parse(), Ok(options));
        assert_eq!("".parse(), Ok(Options::default()));
        assert!(",backlog=x".parse::<Options>().is_err());
    }
}
