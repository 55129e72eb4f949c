//! The environment of a handler of `pf-accept`: UCSPI's variables, as tcpserver and unixserver set
//! them, and similar ones for vsock. See <https://cr.yp.to/proto/ucspi.txt>.
//!
//! No names are looked up: `TCPREMOTEHOST` and `TCPREMOTEINFO` are never set, nor passed on from
//! this process's own environment.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

/// The two ends of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// TCP.
    Tcp {
        /// The server's end.
        local: SocketAddr,
        /// The client's end.
        remote: SocketAddr,
        /// The interface, if the addresses are link-local IPv6 ones.
        interface: Option<String>,
    },
    /// A Unix socket.
    Unix {
        /// Where the listener is bound: a path, or `@` and an abstract name; empty if unknown.
        local: Vec<u8>,
        /// The effective uid and gid of this process.
        own_ids: (u32, u32),
        /// The client, as it was when it connected (`SO_PEERCRED`); `None`: unknown.
        client: Option<UnixClient>,
    },
    /// vsock.
    Vsock {
        /// The server's context id and port.
        local: (u32, u32),
        /// The client's context id and port.
        remote: (u32, u32),
    },
}

/// The process at the other end of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixClient {
    /// The pid; 0: the process is in another pid namespace.
    pub pid: i32,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

/// The variable for the handler's own pid, on a Unix socket. The handler's side of the fork sets
/// it: only that process knows its pid before the exec.
pub const UNIX_LOCAL_PID: &str = "UNIXLOCALPID";

/// The first letters of the names of UCSPI's variables.
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

/// Whether a variable describes a connection. If this process was given one, it is about another
/// connection than the handler's, and must not be passed on.
pub fn is_ucspi(name: &OsStr) -> bool {
    name == "PROTO"
        || name == "TCP6INTERFACE"
        || FAMILIES
            .iter()
            .any(|family| name.as_encoded_bytes().starts_with(family.as_bytes()))
}

/// The variables of a connection, each as `NAME=VALUE`. No value holds a NUL.
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
    // An IPv4 client of a dual-stack socket has an IPv4-mapped address: handlers that know IPv4
    // alone get it as IPv4.
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

/// Describes the client for a log line.
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

    fn rendered(ends: &Ends) -> Vec<String> {
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
    fn ipv4_variables_are_those_of_tcpserver() {
        assert_eq!(
            rendered(&tcp("127.0.0.1:7702", "127.0.0.2:57284")),
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
    fn ipv6_and_mapped_ipv4_variables_are_those_of_tcpserver() {
        assert_eq!(
            rendered(&tcp("[::1]:7701", "[fe80::2]:53210")),
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
            rendered(&tcp("[::ffff:127.0.0.1]:7701", "[::ffff:10.0.0.9]:57100")),
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
        assert!(rendered(&linked).contains(&"TCP6INTERFACE=eth0".to_owned()));
    }

    #[test]
    fn unix_variables_are_those_of_unixserver() {
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
            rendered(&ends),
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
            "an abstract name may hold a NUL, a variable cannot"
        );
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn vsock_variables_have_context_and_port() {
        let ends = Ends::Vsock {
            local: (1, 5000),
            remote: (2, 4_294_967_295),
        };
        assert_eq!(
            rendered(&ends),
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
    fn every_variable_set_here_is_recognised() {
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
        for text in all.iter().flat_map(rendered) {
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
