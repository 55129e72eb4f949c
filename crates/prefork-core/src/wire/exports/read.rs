//! Reads the variables of the other protocols.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::Protocol;
use crate::wire::address::Bound;
use crate::wire::listen_env::FIRST_FD;

/// The most listeners of one variable; a variable that claims more is ignored.
const MAX_FDS: usize = 1 << 16;

/// One listener, as a variable claims it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The descriptor.
    pub fd: i32,
    /// Where it is bound, in the protocol's form; None: the protocol has no addresses.
    pub address: Option<OsString>,
}

/// Reads the listeners of `protocol` from an environment, which `lookup` reads; `None` if its
/// variable is not set. A variable that is set and empty has no listeners, and its parent speaks
/// the protocol. `parent`: the pid of the process that started this one, if it is known.
///
/// The error is one line: which variable is ignored, and why. The variable may be left over from
/// another process, or may have nothing to do with this protocol.
pub fn read(
    protocol: Protocol,
    lookup: impl Fn(&str) -> Option<OsString>,
    parent: Option<u32>,
) -> Result<Option<Vec<Claim>>, String> {
    let variable = protocol.variable();
    let Some(value) = lookup(variable).filter(|_| protocol != Protocol::Systemd) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    match protocol {
        // `listen_env` parses systemd's variables.
        Protocol::Systemd => Ok(Vec::new()),
        Protocol::Einhorn => einhorn(&value, lookup, parent),
        Protocol::Unicorn => parts(bytes, b",").map(bare).collect(),
        Protocol::Nginx => terminated(bytes).map(|part| bare(part?)).collect(),
        Protocol::ServerStarter => parts(bytes, b";").map(pair).collect(),
        Protocol::PhpFpm => parts(bytes, b",").map(pair).collect(),
    }
    .and_then(|claims: Vec<Claim>| {
        if claims.len() > MAX_FDS {
            return Err(format!("it has more than {MAX_FDS} listeners"));
        }
        Ok(Some(claims))
    })
    .map_err(|why| format!("{variable} is ignored: {why}"))
}

fn einhorn(
    count: &OsStr,
    lookup: impl Fn(&str) -> Option<OsString>,
    parent: Option<u32>,
) -> Result<Vec<Claim>, String> {
    let master = lookup("EINHORN_MASTER_PID");
    let meant_for = master.map(|pid| whole(pid.as_bytes())).transpose()?;
    if let (Some(master), Some(parent)) = (meant_for, parent)
        && u64::from(parent) != master
    {
        return Err(format!(
            "it is meant for children of pid {master}, and this is one of pid {parent}"
        ));
    }
    let count = whole(count.as_bytes())?;
    if usize::try_from(count).map_or(true, |count| count > MAX_FDS) {
        return Err(malformed(count.to_string().as_bytes()));
    }
    let each = |index| {
        let name = format!("EINHORN_FD_{index}");
        let value = lookup(&name).ok_or_else(|| format!("there is no {name}"))?;
        bare(value.as_bytes())
    };
    (0..count).map(each).collect()
}

/// The parts between separators; an empty value has no parts.
fn parts<'a>(bytes: &'a [u8], separator: &'static [u8; 1]) -> impl Iterator<Item = &'a [u8]> {
    let parts = bytes.split(|byte| separator.contains(byte));
    parts.filter(move |_| !bytes.is_empty())
}

/// The parts before each `;` or `:`. nginx ignores what follows the last one; here that is an
/// error.
fn terminated(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], String>> {
    let parts = bytes.split_inclusive(|byte| matches!(byte, b';' | b':'));
    parts.map(move |part| match part.split_last() {
        Some((b';' | b':', number)) => Ok(number),
        _ => Err(malformed(bytes)),
    })
}

/// A number alone.
fn bare(number: &[u8]) -> Result<Claim, String> {
    let fd = descriptor(number)?;
    Ok(Claim { fd, address: None })
}

/// `ADDRESS=FD`, split at the last `=`: a path may hold others.
fn pair(part: &[u8]) -> Result<Claim, String> {
    let at = part.iter().rposition(|byte| *byte == b'=');
    let (address, number) = at
        .filter(|at| *at > 0)
        .and_then(|at| Some((part.get(..at)?, part.get(at + 1..)?)))
        .ok_or_else(|| malformed(part))?;
    Ok(Claim {
        fd: descriptor(number)?,
        address: Some(OsStr::from_bytes(address).to_owned()),
    })
}

/// A descriptor, but not 0, 1 or 2.
fn descriptor(text: &[u8]) -> Result<i32, String> {
    let number = whole(text)?;
    let fd = i32::try_from(number).ok().filter(|fd| *fd >= FIRST_FD);
    fd.ok_or_else(|| malformed(text))
}

/// A number of digits alone.
fn whole(text: &[u8]) -> Result<u64, String> {
    let digits = text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| digits);
    number
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| malformed(text))
}

fn malformed(text: &[u8]) -> String {
    format!("'{}' is malformed", text.escape_ascii())
}

/// Whether a socket that is bound at `bound` can be the one that a claim has the `address` of: the
/// port or the path is the same. The host is not compared, since the claim may have it as a name.
pub fn address_matches(address: &OsStr, bound: &Bound) -> bool {
    let claimed = address.as_bytes();
    match bound {
        Bound::Tcp(at) | Bound::Udp(at) => {
            let port = claimed.rsplit(|byte| *byte == b':').next();
            port.and_then(|port| whole(port).ok()) == Some(at.port().into())
        }
        Bound::Unix(_, path) => path.as_os_str() == address,
        Bound::Abstract(..) | Bound::Vsock { .. } | Bound::Other { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::address::Kind;
    use crate::wire::exports::render;

    fn parsed(
        protocol: Protocol,
        variables: &[(&str, &str)],
    ) -> Result<Vec<(i32, Option<String>)>, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let claims = read(protocol, lookup, Some(7))?.unwrap_or_default();
        let text = |claim: Claim| {
            let address = claim.address.map(|address| address.display().to_string());
            (claim.fd, address)
        };
        Ok(claims.into_iter().map(text).collect())
    }

    #[test]
    fn each_format_is_parsed() {
        let numbers = Ok(vec![(8, None), (9, None)]);
        let pairs = |one: &str, other: &str| {
            Ok(vec![(4, Some(one.to_owned())), (5, Some(other.to_owned()))])
        };
        let einhorn = [
            ("EINHORN_FD_COUNT", "2"),
            ("EINHORN_FD_0", "8"),
            ("EINHORN_FD_1", "9"),
        ];
        assert_eq!(parsed(Protocol::Einhorn, &einhorn), numbers);
        assert_eq!(parsed(Protocol::Unicorn, &[("UNICORN_FD", "8,9")]), numbers);
        assert_eq!(parsed(Protocol::Nginx, &[("NGINX", "8;9;")]), numbers);
        assert_eq!(parsed(Protocol::Nginx, &[("NGINX", "8:9;")]), numbers);
        assert_eq!(
            parsed(
                Protocol::ServerStarter,
                &[("SERVER_STARTER_PORT", "127.0.0.1:80=4;/run/a=b=5")]
            ),
            pairs("127.0.0.1:80", "/run/a=b")
        );
        assert_eq!(
            parsed(
                Protocol::PhpFpm,
                &[("FPM_SOCKETS", "::1:9000=4,/run/x.sock=5")]
            ),
            pairs("::1:9000", "/run/x.sock")
        );
        for protocol in Protocol::ALL {
            assert_eq!(parsed(protocol, &[]), Ok(vec![]), "no variable, no claim");
        }
        assert_eq!(parsed(Protocol::Unicorn, &[("UNICORN_FD", "")]), Ok(vec![]));
        assert_eq!(parsed(Protocol::Nginx, &[("NGINX", "")]), Ok(vec![]));
    }

    #[test]
    fn errors_name_the_malformed_part() {
        for (protocol, value, why) in [
            (Protocol::Nginx, "8;9", "'8;9' is malformed"),
            (Protocol::Nginx, "/etc/nginx", "'/etc/nginx' is malformed"),
            (Protocol::Nginx, "2;", "'2' is malformed"),
            (Protocol::Unicorn, "8,", "'' is malformed"),
            (Protocol::Unicorn, "+8", "'+8' is malformed"),
            (
                Protocol::Unicorn,
                "99999999999",
                "'99999999999' is malformed",
            ),
            (Protocol::ServerStarter, "80", "'80' is malformed"),
            (Protocol::ServerStarter, "=4", "'=4' is malformed"),
            (Protocol::PhpFpm, "a=4,b=x", "'x' is malformed"),
            (Protocol::Einhorn, "x", "'x' is malformed"),
            (Protocol::Einhorn, "1", "there is no EINHORN_FD_0"),
            (Protocol::Einhorn, "999999999", "'999999999' is malformed"),
        ] {
            let variable = protocol.variable();
            let error = parsed(protocol, &[(variable, value)]).expect_err(value);
            assert_eq!(error, format!("{variable} is ignored: {why}"));
        }
    }

    #[test]
    fn einhorn_variables_of_another_master_are_ignored() {
        let parsed = |master| {
            let count = ("EINHORN_FD_COUNT", "0");
            parsed(Protocol::Einhorn, &[count, ("EINHORN_MASTER_PID", master)])
        };
        assert_eq!(parsed("7"), Ok(vec![]));
        let error = parsed("8").expect_err("another's");
        assert_eq!(
            error,
            "EINHORN_FD_COUNT is ignored: \
             it is meant for children of pid 8, and this is one of pid 7"
        );
        assert!(parsed("x").is_err());
    }

    #[test]
    fn address_matches_by_port_or_path() {
        let tcp = Bound::Tcp("127.0.0.1:80".parse().expect("an address"));
        for (address, bound, matches) in [
            ("80", &tcp, true),
            ("127.0.0.1:80", &tcp, true),
            ("localhost:80", &tcp, true),
            ("81", &tcp, false),
            ("/80", &tcp, false),
            ("/x", &Bound::Unix(Kind::Stream, "/x".into()), true),
            ("/y", &Bound::Unix(Kind::Stream, "/x".into()), false),
            ("x", &Bound::Other { inode: 1 }, false),
        ] {
            assert_eq!(
                address_matches(OsStr::new(address), bound),
                matches,
                "{address}"
            );
        }
    }

    fn addresses() -> impl Strategy<Value = Bound> {
        prop_oneof![
            any::<std::net::SocketAddrV4>().prop_map(|at| Bound::Tcp(at.into())),
            any::<(std::net::Ipv6Addr, u16)>().prop_map(|at| Bound::Tcp(at.into())),
            any::<std::net::SocketAddrV4>().prop_map(|at| Bound::Udp(at.into())),
            "/[a-z=;,:/]{0,12}".prop_map(|path| Bound::Unix(Kind::Stream, path.into())),
            Just(Bound::Vsock { cid: 3, port: 4 }),
        ]
    }

    proptest! {
        #[test]
        fn rendered_variables_are_read_back(
            listeners in proptest::collection::vec(addresses(), 0..5),
            protocol in proptest::sample::select(Protocol::ALL.to_vec()),
            first in 3..1000,
        ) {
            let listeners: Vec<&Bound> = listeners.iter().collect();
            let Ok(variables) = render(&[protocol], &listeners, first) else {
                return Ok(());
            };
            let variables: BTreeMap<String, OsString> = variables.into_iter().collect();
            let claims = read(protocol, |name| variables.get(name).cloned(), None)
                .map_err(TestCaseError::fail)?;
            prop_assert_eq!(claims.is_some(), protocol != Protocol::Systemd);
            let claims = claims.unwrap_or_default();
            if protocol != Protocol::Systemd {
                let numbers: Vec<i32> = claims.iter().map(|claim| claim.fd).collect();
                prop_assert_eq!(numbers, (first..).take(listeners.len()).collect::<Vec<_>>());
            }
            for (claim, bound) in claims.iter().zip(listeners) {
                if let Some(address) = &claim.address {
                    prop_assert!(address_matches(address, bound), "{:?} {:?}", address, bound);
                }
            }
        }

        #[test]
        fn random_values_never_panic(
            value in proptest::collection::vec(1..=255_u8, 0..24),
            second in "[0-9]{0,3}",
        ) {
            for protocol in Protocol::ALL {
                let lookup = |name: &str| match name {
                    "EINHORN_FD_0" | "EINHORN_MASTER_PID" => Some(OsString::from(&second)),
                    _ => Some(OsStr::from_bytes(&value).to_owned()),
                };
                for claim in read(protocol, lookup, Some(1)).ok().flatten().unwrap_or_default() {
                    prop_assert!(claim.fd >= FIRST_FD);
                }
            }
        }
    }
}
