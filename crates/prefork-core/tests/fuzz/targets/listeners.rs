//! Addresses, and the variables that pass listeners on.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use prefork_core::wire::address::size::Size;
use prefork_core::wire::address::{Address, Bound, Kind, ListenSpec, MAX_UNIX, Name};
use prefork_core::wire::exports::{Claim, Protocol, address_matches, check_spec, read, render};
use prefork_core::wire::listen_env::{self, FIRST_FD, Inheritance};

use super::assert_one_line;

/// An address of `pf-listen`; the same text as a size and as a name.
pub fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    size_and_name(text);
    let spec: ListenSpec = match text.parse() {
        Ok(spec) => spec,
        Err(why) => return assert_one_line(&why),
    };
    let shown = spec.to_string();
    assert_one_line(&shown);
    assert_eq!(shown.parse(), Ok(spec.clone()), "{shown}");
    match &spec.address {
        Address::Unix(_, path) => assert!(path.as_os_str().len() <= MAX_UNIX),
        Address::Abstract(_, name) => assert!((1..=MAX_UNIX).contains(&name.len())),
        Address::Fd(fd) => assert!(*fd >= 0),
        Address::Tcp(_) | Address::Udp(_) | Address::Vsock { .. } => {}
    }
    if let (Some(name), Some(copies)) = (&spec.name, spec.options.copies) {
        assert!(Name::is_valid(name.copy(copies - 1).as_str()));
    }
    if let Err(why) = check_spec(&Protocol::ALL, &spec) {
        assert_one_line(&why);
    }
}

fn size_and_name(text: &str) {
    match text.parse::<Size>() {
        Ok(size) => assert_eq!(size.to_string().parse(), Ok(size)),
        Err(why) => assert_one_line(&why),
    }
    match text.parse::<Name>() {
        Ok(name) => assert_eq!(Name::inherited(text).unwrap_or(name.clone()), name),
        Err(why) => assert_one_line(&why),
    }
    if let Some(name) = Name::inherited(text) {
        let (_, names) = listen_env::render([Some(name.as_str())]);
        assert_eq!(names, text);
        assert_one_line(text);
    }
    if let Err(why) = text.parse::<Protocol>() {
        assert_one_line(&why);
    }
}

/// The lines of the input are the values of `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`; a
/// line that is not there is a variable that is not set.
pub fn listen_env(input: &[u8]) {
    let names = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    let variables = variables(names.map(str::to_owned), input);
    let (count, names) = match listen_env::parse(|name| variables.get(name).cloned(), 42) {
        Ok(Inheritance::Inherited { count, names }) => (count, names),
        Ok(Inheritance::ForAnotherProcess { pid }) => return assert_ne!(pid, 42),
        Ok(Inheritance::None) => return assert!(variables.len() < 2),
        Err(why) => return assert_one_line(&why),
    };
    if names.is_empty() {
        assert!(count == 0 || !variables.contains_key("LISTEN_FDNAMES"));
        return;
    }
    let (fds, fdnames) = listen_env::render(names.iter().map(|name| Some(name.as_str())));
    let written = BTreeMap::from([
        ("LISTEN_FDS", fds),
        ("LISTEN_PID", "42".to_owned()),
        ("LISTEN_FDNAMES", fdnames),
    ]);
    let read = listen_env::parse(|name| written.get(name).map(OsString::from), 42);
    assert_eq!(read, Ok(Inheritance::Inherited { count, names }));
}

/// The first byte chooses the protocol, the first line is its variable; the next ones are
/// `EINHORN_MASTER_PID` and `EINHORN_FD_0` and so on.
pub fn exports(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let protocol = Protocol::ALL[usize::from(*first) % Protocol::ALL.len()];
    let main = protocol.variable().to_owned();
    let others = (0..).map(|index| format!("EINHORN_FD_{index}"));
    let names = [main, "EINHORN_MASTER_PID".to_owned()];
    let variables = variables(names.into_iter().chain(others), rest);
    let claims = match read(protocol, |name| variables.get(name).cloned(), Some(7)) {
        Ok(Some(claims)) => claims,
        Ok(None) => return assert_eq!(protocol, Protocol::Systemd),
        Err(why) => {
            assert!(why.starts_with(protocol.variable()), "{why}");
            return assert_one_line(&why);
        }
    };
    assert!(claims.iter().all(|claim| claim.fd >= FIRST_FD));
    let bound: Vec<Bound> = claims.iter().map(bound).collect();
    let listeners: Vec<&Bound> = bound.iter().collect();
    passed_on(protocol, &listeners);
}

/// A listener that a claim can be about.
fn bound(claim: &Claim) -> Bound {
    let Some(address) = &claim.address else {
        return Bound::Other { inode: 1 };
    };
    let text = address.to_string_lossy();
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    match (text.parse(), text.parse()) {
        (Ok(at), _) => Bound::Tcp(at),
        (_, Ok(port)) => Bound::Udp(any(port)),
        _ => Bound::Unix(Kind::Stream, PathBuf::from(address)),
    }
}

/// What one program of ours exports, the next one reads: the same descriptors, and addresses that
/// match.
fn passed_on(protocol: Protocol, listeners: &[&Bound]) {
    let written = match render(&[protocol], listeners, FIRST_FD) {
        Ok(variables) => BTreeMap::from_iter(variables),
        Err(why) => return assert_one_line(&why),
    };
    let claims = read(protocol, |name| written.get(name).cloned(), Some(7));
    let claims = claims.expect("what was rendered is read");
    let claims = claims.expect("there is a variable");
    assert_eq!(claims.len(), listeners.len());
    for ((claim, listener), fd) in claims.iter().zip(listeners).zip(FIRST_FD..) {
        assert_eq!(claim.fd, fd);
        let mut address = claim.address.iter();
        assert!(address.all(|address| address_matches(address, listener)));
    }
}

/// Variables whose values are lines of the input.
fn variables(names: impl IntoIterator<Item = String>, input: &[u8]) -> BTreeMap<String, OsString> {
    let lines = input.split(|byte| *byte == b'\n');
    let values = lines.map(|line| OsStr::from_bytes(line).to_owned());
    names.into_iter().zip(values).collect()
}
