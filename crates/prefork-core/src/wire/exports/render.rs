//! Writes the variables of the other protocols, and knows which addresses each cannot hold.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Protocol;
use crate::wire::address::{Address, Bound, Kind, ListenSpec};

/// Renders the variables of these protocols for listeners at the descriptors `first`, `first + 1`
/// and so on. Without a listener the variables are there and empty, or a count of 0: a client of
/// Server::Starter takes a missing variable for a missing starter, and dies.
///
/// The error is one line: which protocol cannot hold which address, and why.
pub fn render(
    protocols: &[Protocol],
    listeners: &[&Bound],
    first: i32,
) -> Result<Vec<(String, OsString)>, String> {
    let mut variables = Vec::new();
    let listeners: Vec<(&Bound, i32)> = listeners.iter().copied().zip(first..).collect();
    for protocol in protocols {
        for (at, (address, _)) in listeners.iter().enumerate() {
            check_address(*protocol, address).map_err(|why| refusal(*protocol, address, why))?;
            let before = listeners.iter().take(at);
            if has_addresses(*protocol) && before.clone().any(|(other, _)| other == address) {
                let why = "it comes twice, and the format identifies listeners by address";
                return Err(refusal(*protocol, address, why));
            }
        }
        variables.extend(variables_of(*protocol, &listeners));
    }
    Ok(variables)
}

fn refusal(protocol: Protocol, address: &impl std::fmt::Display, why: &str) -> String {
    let variable = protocol.variable();
    format!("--export {protocol}: {variable} cannot hold {address}: {why}")
}

/// Whether the format identifies listeners by address, so that each address may come once.
fn has_addresses(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ServerStarter | Protocol::PhpFpm)
}

fn variables_of(protocol: Protocol, listeners: &[(&Bound, i32)]) -> Vec<(String, OsString)> {
    let name = || protocol.variable().to_owned();
    let numbers = || listeners.iter().map(|(_, fd)| fd.to_string());
    match protocol {
        Protocol::Systemd => Vec::new(),
        Protocol::Einhorn => {
            let each = |(index, number)| (format!("EINHORN_FD_{index}"), OsString::from(number));
            let count = listeners.len().to_string();
            std::iter::once((name(), count.into()))
                .chain(numbers().enumerate().map(each))
                .collect()
        }
        Protocol::Unicorn => vec![(name(), numbers().collect::<Vec<_>>().join(",").into())],
        // The last number needs its `;` too: nginx ignores a number without one.
        Protocol::Nginx => {
            let each = numbers().map(|number| number + ";");
            vec![(name(), each.collect::<String>().into())]
        }
        Protocol::ServerStarter => vec![(name(), pairs(listeners, ";", port_of_starter))],
        Protocol::PhpFpm => vec![(name(), pairs(listeners, ",", key_of_fpm))],
    }
}

fn pairs(
    listeners: &[(&Bound, i32)],
    separator: &str,
    key: impl Fn(SocketAddr) -> String,
) -> OsString {
    let mut all = OsString::new();
    for (address, fd) in listeners {
        if !all.is_empty() {
            all.push(separator);
        }
        match address {
            Bound::Unix(_, path) => all.push(path),
            Bound::Tcp(at) | Bound::Udp(at) => all.push(key(*at)),
            // `check_address` has refused these.
            Bound::Abstract(..) | Bound::Vsock { .. } | Bound::Other { .. } => {}
        }
        all.push(format!("={fd}"));
    }
    all
}

/// Server::Starter's form: the port alone for any IPv4 address.
fn port_of_starter(at: SocketAddr) -> String {
    if at.ip() == Ipv4Addr::UNSPECIFIED {
        at.port().to_string()
    } else {
        at.to_string()
    }
}

/// php-fpm's form: without brackets, also for IPv6.
fn key_of_fpm(at: SocketAddr) -> String {
    format!("{}:{}", at.ip(), at.port())
}

/// Checks whether the format can hold an address; the error says why it cannot.
fn check_address(protocol: Protocol, address: &Bound) -> Result<(), &'static str> {
    const KINDS: &str = "it is for TCP and Unix stream sockets";
    match (protocol, address) {
        (Protocol::Systemd | Protocol::Einhorn, _) => Ok(()),
        (_, Bound::Tcp(_)) => Ok(()),
        (Protocol::ServerStarter | Protocol::Nginx, Bound::Udp(_)) => Ok(()),
        (Protocol::ServerStarter, Bound::Unix(Kind::Stream, path)) => {
            without(path, b";=").ok_or("a ';' or '=' in a path is taken for its end")
        }
        (Protocol::PhpFpm, Bound::Unix(Kind::Stream, path)) if path.is_absolute() => {
            without(path, b",=").ok_or("a ',' or '=' in a path is taken for its end")
        }
        (Protocol::PhpFpm, Bound::Unix(Kind::Stream, _)) => {
            Err("a path that does not begin with / is taken for a host")
        }
        (Protocol::Unicorn, Bound::Unix(Kind::Stream, _) | Bound::Abstract(Kind::Stream, _)) => {
            Ok(())
        }
        (Protocol::Nginx, Bound::Unix(Kind::Stream | Kind::Datagram, _)) => Ok(()),
        (Protocol::ServerStarter | Protocol::Nginx, _) => {
            Err("it is for TCP, UDP and Unix sockets with a path")
        }
        (Protocol::PhpFpm, Bound::Abstract(..)) => Err("it has no path"),
        (Protocol::Unicorn | Protocol::PhpFpm, _) => Err(KINDS),
    }
}

fn without(path: &Path, forbidden: &[u8]) -> Option<()> {
    let bytes = OsStr::as_bytes(path.as_os_str());
    let clean = !bytes.iter().any(|byte| forbidden.contains(byte));
    clean.then_some(())
}

/// Checks before binding whether these protocols can hold the listeners of `spec`, as far as that
/// is known before. The error is like that of [`render`].
pub fn check_spec(protocols: &[Protocol], spec: &ListenSpec) -> Result<(), String> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = match &spec.address {
        Address::Tcp(_) => Bound::Tcp(anywhere),
        Address::Udp(_) => Bound::Udp(anywhere),
        // A relative path may be made absolute when it is bound.
        Address::Unix(kind, path) => Bound::Unix(*kind, Path::new("/").join(path)),
        Address::Abstract(kind, name) => Bound::Abstract(*kind, name.clone().into_bytes()),
        Address::Vsock { cid, port } => Bound::Vsock {
            cid: *cid,
            port: *port,
        },
        Address::Fd(_) => return Ok(()),
    };
    for protocol in protocols {
        check_address(*protocol, &bound).map_err(|why| refusal(*protocol, spec, why))?;
        if has_addresses(*protocol) && spec.options.copies.is_some_and(|copies| copies > 1) {
            let why = "the format identifies listeners by address, and copies share one";
            return Err(refusal(*protocol, spec, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(at: &str) -> Bound {
        Bound::Tcp(at.parse().expect("an address"))
    }

    fn udp(at: &str) -> Bound {
        Bound::Udp(at.parse().expect("an address"))
    }

    fn unix(path: &str) -> Bound {
        Bound::Unix(Kind::Stream, path.into())
    }

    fn rendered(protocol: Protocol, listeners: &[Bound]) -> Result<Vec<String>, String> {
        let listeners: Vec<&Bound> = listeners.iter().collect();
        let line = |(name, value): (String, OsString)| format!("{name}={}", value.display());
        let all = render(&[protocol], &listeners, 3)?;
        Ok(all.into_iter().map(line).collect())
    }

    #[test]
    fn each_protocol_renders_its_format() {
        let all = [
            tcp("127.0.0.1:8080"),
            tcp("0.0.0.0:80"),
            tcp("[::1]:81"),
            tcp("[::]:82"),
            unix("/run/app.sock"),
        ];
        for (protocol, expected) in [
            (Protocol::Systemd, &[][..]),
            (
                Protocol::Einhorn,
                &[
                    "EINHORN_FD_COUNT=5",
                    "EINHORN_FD_0=3",
                    "EINHORN_FD_1=4",
                    "EINHORN_FD_2=5",
                    "EINHORN_FD_3=6",
                    "EINHORN_FD_4=7",
                ],
            ),
            (
                Protocol::ServerStarter,
                &["SERVER_STARTER_PORT=127.0.0.1:8080=3;80=4;[::1]:81=5;[::]:82=6;/run/app.sock=7"],
            ),
            (Protocol::Unicorn, &["UNICORN_FD=3,4,5,6,7"]),
            (Protocol::Nginx, &["NGINX=3;4;5;6;7;"]),
            (
                Protocol::PhpFpm,
                &["FPM_SOCKETS=127.0.0.1:8080=3,0.0.0.0:80=4,::1:81=5,:::82=6,/run/app.sock=7"],
            ),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(rendered(protocol, &all), Ok(expected));
        }
        // Server::Starter too drops the `u` that marks a UDP port on its command line.
        let udp = [udp("127.0.0.1:53")];
        assert_eq!(
            rendered(Protocol::ServerStarter, &udp),
            Ok(vec!["SERVER_STARTER_PORT=127.0.0.1:53=3".to_owned()])
        );
    }

    #[test]
    fn without_a_listener_the_variables_are_empty() {
        for (protocol, expected) in [
            (Protocol::Systemd, &[][..]),
            (Protocol::Einhorn, &["EINHORN_FD_COUNT=0"]),
            (Protocol::ServerStarter, &["SERVER_STARTER_PORT="]),
            (Protocol::Unicorn, &["UNICORN_FD="]),
            (Protocol::Nginx, &["NGINX="]),
            (Protocol::PhpFpm, &["FPM_SOCKETS="]),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(rendered(protocol, &[]), Ok(expected));
        }
    }

    #[test]
    fn unsuitable_addresses_are_refused_by_name() {
        use Protocol::{Nginx, PhpFpm, ServerStarter, Unicorn};
        let packets = Bound::Unix(Kind::Seqpacket, "/x".into());
        let datagrams = Bound::Unix(Kind::Datagram, "/x".into());
        let hidden = Bound::Abstract(Kind::Stream, b"x".to_vec());
        let vsock = Bound::Vsock { cid: 1, port: 2 };
        let other = Bound::Other { inode: 7 };
        let refuses = |protocol, address: &Bound| {
            let error = rendered(protocol, std::slice::from_ref(address)).expect_err("refused");
            let said = format!(
                "--export {protocol}: {} cannot hold {address}: ",
                protocol.variable()
            );
            assert!(error.starts_with(&said), "{error}");
        };
        for (protocol, refused) in [
            (
                ServerStarter,
                &[&packets, &datagrams, &hidden, &vsock, &other][..],
            ),
            (Nginx, &[&packets, &hidden, &vsock, &other]),
            (
                Unicorn,
                &[&packets, &datagrams, &vsock, &other, &udp("1.2.3.4:5")],
            ),
            (
                PhpFpm,
                &[
                    &packets,
                    &datagrams,
                    &hidden,
                    &vsock,
                    &other,
                    &udp("1.2.3.4:5"),
                ],
            ),
        ] {
            refused
                .iter()
                .for_each(|address| refuses(protocol, address));
            let einhorn = rendered(
                Protocol::Einhorn,
                &refused.iter().map(|a| (*a).clone()).collect::<Vec<_>>(),
            );
            assert!(einhorn.is_ok(), "numbers hold anything");
        }
        refuses(ServerStarter, &unix("/a=b"));
        refuses(ServerStarter, &unix("/a;b"));
        refuses(PhpFpm, &unix("/a=b"));
        refuses(PhpFpm, &unix("/a,b"));
        refuses(PhpFpm, &unix("a"));
        assert!(rendered(Nginx, &[unix("/a=b;,")]).is_ok());
        assert!(rendered(Unicorn, &[hidden]).is_ok());
    }

    #[test]
    fn same_address_twice_is_refused_by_address_formats() {
        let twice = [tcp("127.0.0.1:80"), tcp("127.0.0.1:80")];
        for protocol in [Protocol::ServerStarter, Protocol::PhpFpm] {
            let error = rendered(protocol, &twice).expect_err("refused");
            assert!(error.contains("it comes twice"), "{error}");
        }
        assert_eq!(
            rendered(Protocol::Unicorn, &twice),
            Ok(vec!["UNICORN_FD=3,4".to_owned()])
        );
    }

    #[test]
    fn unsuitable_specs_are_refused_before_binding() {
        let check_spec = |protocol, spec: &str| {
            super::check_spec(&[protocol], &spec.parse().expect("an address"))
        };
        for (protocol, spec) in [
            (Protocol::Nginx, "vsock::1"),
            (Protocol::Unicorn, "udp:127.0.0.1:53"),
            (Protocol::PhpFpm, "@name"),
            (Protocol::ServerStarter, "/run/a=b"),
            (Protocol::ServerStarter, "127.0.0.1:0,copies=2"),
        ] {
            let error = check_spec(protocol, spec).expect_err(spec);
            assert!(
                error.contains("cannot hold")
                    && error.contains(spec.split(',').next().unwrap_or(spec)),
                "{error}"
            );
        }
        for (protocol, spec) in [
            (Protocol::PhpFpm, "./relative"),
            (Protocol::ServerStarter, "127.0.0.1:0,copies=1"),
            (Protocol::Unicorn, "fd:9"),
            (Protocol::Einhorn, "vsock::1"),
            (Protocol::Nginx, "udp:127.0.0.1:53"),
        ] {
            assert_eq!(check_spec(protocol, spec), Ok(()), "{spec}");
        }
    }
}
