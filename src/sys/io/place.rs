//! Where a stream listener can be reached from here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::wire::address::{Address, Kind, ListenSpec};

/// Where a stream listener can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix path.
    Unix(PathBuf),
    /// A name in the abstract namespace.
    Abstract(String),
}

/// Where this address of a listener is reached, or why it is not. `process`: the pid of the one
/// that has bound it, relative to whose directory a path may be.
///
/// # Errors
/// In words: it is no stream, or names no place.
pub fn of(address: &str, process: i32) -> Result<Place, String> {
    if let Some(at) = address.strip_prefix("tcp:") {
        let at: SocketAddr = at
            .parse()
            .map_err(|_| format!("{address} cannot be read"))?;
        return Ok(Place::Tcp(reachable(at)));
    }
    let spec: Result<ListenSpec, _> = address.parse();
    match spec.map(|spec| spec.address) {
        Ok(Address::Unix(Kind::Stream, path)) => Ok(Place::Unix(absolute(path, process))),
        Ok(Address::Abstract(Kind::Stream, name)) => Ok(Place::Abstract(name)),
        Ok(Address::Unix(kind, _) | Address::Abstract(kind, _)) => Err(match kind {
            Kind::Datagram => "datagrams are not tried".to_owned(),
            Kind::Seqpacket | Kind::Stream => "a seqpacket socket is not tried".to_owned(),
        }),
        Ok(Address::Udp(_)) => Err("datagrams are not tried".to_owned()),
        Ok(Address::Vsock { .. }) => Err("vsock is not tried".to_owned()),
        Ok(Address::Tcp(_) | Address::Fd(_)) | Err(_) => {
            Err("its address names no place to connect to".to_owned())
        }
    }
}

/// All interfaces are reached at the loopback.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut reachable = at;
    reachable.set_ip(ip);
    reachable
}

fn absolute(path: PathBuf, process: i32) -> PathBuf {
    if path.is_absolute() {
        return path;
    }
    Path::new(&format!("/proc/{process}/cwd")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> Result<Place, String> {
        of(address, 7)
    }

    #[test]
    fn streams_are_reached_and_all_interfaces_at_the_loopback() {
        for (address, at) in [
            ("tcp:0.0.0.0:80", "127.0.0.1:80"),
            ("tcp:[::]:80", "[::1]:80"),
            ("tcp:192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(place(address), Ok(Place::Tcp(at.parse().expect("one"))));
        }
        assert_eq!(
            place(r"unix:/run/a\,b.sock"),
            Ok(Place::Unix("/run/a,b.sock".into()))
        );
        assert_eq!(
            place("unix:./a.sock"),
            Ok(Place::Unix("/proc/7/cwd/./a.sock".into()))
        );
        assert_eq!(place("unix:@name"), Ok(Place::Abstract("name".into())));
    }

    #[test]
    fn what_is_no_stream_is_not_tried() {
        for (address, why) in [
            ("udp:127.0.0.1:53", "datagrams"),
            ("unixgram:/run/a", "datagrams"),
            ("unixseq:/run/a", "seqpacket"),
            ("vsock::80", "vsock"),
            ("socket:[7]", "no place"),
        ] {
            let told = place(address).expect_err(address);
            assert!(told.contains(why), "{address}: {told}");
        }
    }
}
