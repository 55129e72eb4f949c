//! The environment of a handler: UCSPI's variables, as tcpserver and unixserver set them, and the like for vsock.
//!
//! Names are not looked up: neither `TCPREMOTEHOST` nor `TCPREMOTEINFO` is ever there, and none is passed on from our own environment.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// The two ends of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// TCP.
    Tcp {
        /// Our end.
        local: SocketAddr,
        /// The client.
        remote: SocketAddr,
        /// The interface of a link-local IPv6 address.
        interface: Option<String>,
    },
    /// A Unix socket.
    Unix {
        /// What it is bound to: a path, or `@` and an abstract name; empty where that cannot be told.
        local: Vec<u8>,
        /// Who we are.
        own_ids: (u32, u32),
        /// The client, when it connected; `None` where the system does not tell.
        client: Option<UnixClient>,
    },
    /// vsock.
    Vsock {
        /// Our end: context and port.
        local: (u32, u32),
        /// The client.
        remote: (u32, u32),
    },
}

/// The process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixClient {
    /// Its pid; 0: one of another pid namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// The variable that the handler's own pid belongs to, for a Unix socket: only the handler knows it in time.
pub const UNIX_LOCAL_PID: &str = "UNIXLOCALPID";

/// What the names of UCSPI's variables begin with, where they are many.
const FAMILIES: [&str; 8] = [
    "TCPLOCAL",
    "TCPREMOTE",
    "TCP6LOCAL",
    "TCP6REMOTE",
    "UNIXLOCAL",
    "UNIXREMOTE",
    "VSOCKLOCAL",
    "VSOCKREMOTE",
];

/// Whether a variable speaks of a connection: what we were given ourselves is not about the handler's.
pub fn is_ucspi(name: &OsStr) -> bool {
    name == "PROTO"
        || name == "TCP6INTERFACE"
        || FAMILIES
            .iter()
            .any(|family| name.as_encoded_bytes().starts_with(family.as_bytes()))
}

/// The variables of a connection, `NAME=VALUE` each. No value holds a NUL.
pub fn variables(ends: &Ends) -> Vec<Vec<u8>> {
    match ends {
        Ends::Tcp {
            local,
            remote,
            interface,
        } => tcp(*local, *remote, interface.as_deref()),
        Ends::Unix {
            local,
            own_ids,
            client,
        } => unix(local, *own_ids, *client),
        Ends::Vsock { local, remote } => vsock(*local, *remote),
    }
}

fn variable(name: &str, value: impl Display) -> Vec<u8> {
    format!("{name}={value}").into_bytes()
}

fn tcp(local: SocketAddr, remote: SocketAddr, interface: Option<&str>) -> Vec<Vec<u8>> {
    // An IPv4 client of a socket for both is what it is, in the words of those who know IPv4 alone.
    let (here, there) = (local.ip().to_canonical(), remote.ip().to_canonical());
    let proto = if there.is_ipv4() { "TCP" } else { "TCP6" };
    let mut all = vec![
        variable("PROTO", proto),
        variable("TCPLOCALIP", here),
        variable("TCPLOCALPORT", local.port()),
        variable("TCPREMOTEIP", there),
        variable("TCPREMOTEPORT", remote.port()),
    ];
    if let (IpAddr::V6(here), IpAddr::V6(there)) = (local.ip(), remote.ip()) {
        all.extend([
            variable("TCP6LOCALIP", here),
            variable("TCP6LOCALPORT", local.port()),
            variable("TCP6REMOTEIP", there),
            variable("TCP6REMOTEPORT", remote.port()),
        ]);
        all.extend(interface.map(|name| variable("TCP6INTERFACE", name)));
    }
    all
}

fn unix(local: &[u8], (uid, gid): (u32, u32), client: Option<UnixClient>) -> Vec<Vec<u8>> {
    let path = local.iter().take_while(|byte| **byte != 0);
    let mut all = vec![
        variable("PROTO", "UNIX"),
        b"UNIXLOCALPATH=".iter().chain(path).copied().collect(),
        variable("UNIXLOCALUID", uid),
        variable("UNIXLOCALGID", gid),
    ];
    if let Some(UnixClient { pid, uid, gid }) = client {
        all.extend([
            variable("UNIXREMOTEEUID", uid),
            variable("UNIXREMOTEEGID", gid),
            variable("UNIXREMOTEPID", pid),
        ]);
    }
    all
}

fn vsock(local: (u32, u32), remote: (u32, u32)) -> Vec<Vec<u8>> {
    vec![
        variable("PROTO", "VSOCK"),
        variable("VSOCKLOCALCID", local.0),
        variable("VSOCKLOCALPORT", local.1),
        variable("VSOCKREMOTECID", remote.0),
        variable("VSOCKREMOTEPORT", remote.1),
    ]
}

/// The client, for a log line.
pub fn client(ends: &Ends) -> String {
    match ends {
        Ends::Tcp { remote, .. } => {
            SocketAddr::new(remote.ip().to_canonical(), remote.port()).to_string()
        }
        Ends::Unix {
            client: Some(UnixClient { pid, uid, .. }),
            ..
        } => format!("process {pid} of uid {uid}"),
        Ends::Unix { client: None, .. } => "a local process".to_owned(),
        Ends::Vsock { remote, .. } => format!("vsock:{}:{}", remote.0, remote.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ends: &Ends) -> Vec<String> {
        let mut all: Vec<String> = variables(ends)
            .into_iter()
            .map(|text| String::from_utf8(text).expect("text"))
            .collect();
        all.sort();
        all
    }

    fn tcp(local: &str, remote: &str) -> Ends {
        Ends::Tcp {
            local: local.parse().expect("an address"),
            remote: remote.parse().expect("an address"),
            interface: None,
        }
    }

    #[test]
    fn ipv4_is_as_tcpserver_has_it() {
        assert_eq!(
            told(&tcp("127.0.0.1:7702", "127.0.0.2:57284")),
            [
                "PROTO=TCP",
                "TCPLOCALIP=127.0.0.1",
                "TCPLOCALPORT=7702",
                "TCPREMOTEIP=127.0.0.2",
                "TCPREMOTEPORT=57284",
            ]
        );
    }

    #[test]
    fn ipv6_and_ipv4_through_it_are_as_tcpserver_for_ipv6_has_them() {
        assert_eq!(
            told(&tcp("[::1]:7701", "[fe80::2]:53210")),
            [
                "PROTO=TCP6",
                "TCP6LOCALIP=::1",
                "TCP6LOCALPORT=7701",
                "TCP6REMOTEIP=fe80::2",
                "TCP6REMOTEPORT=53210",
                "TCPLOCALIP=::1",
                "TCPLOCALPORT=7701",
                "TCPREMOTEIP=fe80::2",
                "TCPREMOTEPORT=53210",
            ]
        );
        assert_eq!(
            told(&tcp("[::ffff:127.0.0.1]:7701", "[::ffff:10.0.0.9]:57100")),
            [
                "PROTO=TCP",
                "TCP6LOCALIP=::ffff:127.0.0.1",
                "TCP6LOCALPORT=7701",
                "TCP6REMOTEIP=::ffff:10.0.0.9",
                "TCP6REMOTEPORT=57100",
                "TCPLOCALIP=127.0.0.1",
                "TCPLOCALPORT=7701",
                "TCPREMOTEIP=10.0.0.9",
                "TCPREMOTEPORT=57100",
            ]
        );
        let Ends::Tcp { local, remote, .. } = tcp("[fe80::1]:1", "[fe80::2]:2") else {
            unreachable!("made so");
        };
        let interface = Some("eth0".to_owned());
        let linked = Ends::Tcp {
            local,
            remote,
            interface,
        };
        assert!(told(&linked).contains(&"TCP6INTERFACE=eth0".to_owned()));
    }

    #[test]
    fn unix_is_as_unixserver_has_it() {
        let client = Some(UnixClient {
            pid: 42,
            uid: 1000,
            gid: 100,
        });
        let ends = Ends::Unix {
            local: b"/run/app.sock".to_vec(),
            own_ids: (0, 1),
            client,
        };
        assert_eq!(
            told(&ends),
            [
                "PROTO=UNIX",
                "UNIXLOCALGID=1",
                "UNIXLOCALPATH=/run/app.sock",
                "UNIXLOCALUID=0",
                "UNIXREMOTEEGID=100",
                "UNIXREMOTEEUID=1000",
                "UNIXREMOTEPID=42",
            ]
        );
        let ends = Ends::Unix {
            local: b"@a\0b\xff".to_vec(),
            own_ids: (0, 0),
            client: None,
        };
        let all = variables(&ends);
        assert!(
            all.contains(&b"UNIXLOCALPATH=@a".to_vec()),
            "a name may hold a NUL, a variable cannot"
        );
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn vsock_tells_contexts_and_ports() {
        let ends = Ends::Vsock {
            local: (1, 5000),
            remote: (2, 4_294_967_295),
        };
        assert_eq!(
            told(&ends),
            [
                "PROTO=VSOCK",
                "VSOCKLOCALCID=1",
                "VSOCKLOCALPORT=5000",
                "VSOCKREMOTECID=2",
                "VSOCKREMOTEPORT=4294967295",
            ]
        );
        assert_eq!(client(&ends), "vsock:2:4294967295");
    }

    #[test]
    fn what_is_set_is_known_as_stale_when_it_is_inherited() {
        let local: SocketAddr = "[::1]:1".parse().expect("an address");
        let interface = Some("lo".to_owned());
        let all = [
            Ends::Tcp {
                local,
                remote: local,
                interface,
            },
            Ends::Unix {
                local: vec![],
                own_ids: (0, 0),
                client: Some(UnixClient {
                    pid: 1,
                    uid: 1,
                    gid: 1,
                }),
            },
            Ends::Vsock {
                local: (1, 1),
                remote: (1, 1),
            },
        ];
        for text in all.iter().flat_map(told) {
            let (name, _) = text.split_once('=').expect("a variable");
            assert!(is_ucspi(OsStr::new(name)), "{name}");
        }
        for name in ["TCPREMOTEHOST", "TCPREMOTEINFO", UNIX_LOCAL_PID] {
            assert!(is_ucspi(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "PROTOCOL", "TCP", "UNIX", "TCP_NODELAY"] {
            assert!(!is_ucspi(OsStr::new(name)), "{name}");
        }
    }
}
