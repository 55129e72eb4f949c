//! Turns the addresses that are asked for into wanted sockets: resolves hosts and services, counts
//! copies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

use super::bound_socket::Listener;
use crate::error::{Error, Result, reason};
use crate::wire::address::{Address, Bound, Endpoint, Host, ListenSpec, MAX_UNIX, Name, Port};
use crate::wire::services;

/// One wanted socket.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) name: Option<Name>,
    pub(super) at: At,
    /// Whether the machine need not have the address. It is so for the IPv6 addresses of a host
    /// that has several addresses.
    pub(super) optional: bool,
}

/// Where a wanted socket is found or bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum At {
    Address(Bound),
    Fd(RawFd),
}

/// All sockets that one spec wants. Those with port 0 get the same port.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) spec: &'a ListenSpec,
    pub(super) wants: Vec<Want>,
    /// Whether the kernel chose the port in this run, so that it may choose another one.
    pub(super) port_is_chosen: bool,
}

impl Group<'_> {
    /// From now on, all wants of the group with port 0 want `port`.
    pub(super) fn settle_port(&mut self, port: u16) {
        for want in self.wants.iter_mut().filter(|want| want.port() == Some(0)) {
            want.set_port(port);
        }
    }

    /// Lets the kernel choose again (port 0). False if the kernel had not chosen the port.
    pub(super) fn unsettle_port(&mut self) -> bool {
        if self.port_is_chosen {
            self.wants.iter_mut().for_each(|want| want.set_port(0));
        }
        std::mem::take(&mut self.port_is_chosen)
    }
}

impl Want {
    pub(super) fn port(&self) -> Option<u16> {
        match &self.at {
            At::Address(at) => at.port(),
            At::Fd(_) => None,
        }
    }

    fn set_port(&mut self, port: u16) {
        if let At::Address(at) = &mut self.at {
            *at = at.clone().with_port(port);
        }
    }
}

/// Whether two addresses are the same. A relative path is the same as its absolute form.
pub(super) fn is_same_address(one: &Bound, other: &Bound) -> bool {
    match (one, other) {
        (Bound::Unix(kind, path), Bound::Unix(other_kind, other)) => {
            kind == other_kind && absolute(path) == absolute(other)
        }
        _ => one == other,
    }
}

/// Whether the address names this listener, or one of its addresses does. `false`: the address
/// cannot be resolved.
pub fn is_at(spec: &ListenSpec, listener: &Listener) -> bool {
    let wants = wants(spec).unwrap_or_default();
    wants.iter().any(|want| match &want.at {
        At::Address(at) => {
            let is_free = matches!(at.port(), Some(0));
            let port = listener.address.port().filter(|_| is_free);
            let at = port.map_or_else(|| at.clone(), |port| at.clone().with_port(port));
            is_same_address(&at, &listener.address)
        }
        At::Fd(fd) => listener.source == Some(*fd),
    })
}

/// What `specs` want, in their order. A spec that repeats an earlier one wants nothing more: it is
/// the same listener. With `reuseport` or `copies` each spec has sockets of its own.
pub(super) fn groups(specs: &[ListenSpec]) -> Result<Vec<Group<'_>>> {
    let mut groups: Vec<Group> = vec![];
    for spec in specs {
        let mut wants = wants(spec)?;
        if !spec.options.reuseport && spec.options.copies.is_none() {
            let mut kept = vec![];
            for want in wants {
                kept.extend(unless_repeated(want, spec, &mut groups)?);
            }
            wants = kept;
        }
        groups.push(Group {
            spec,
            wants,
            port_is_chosen: false,
        });
    }
    Ok(groups)
}

/// `want`, unless an earlier group wants it already.
fn unless_repeated(want: Want, spec: &ListenSpec, earlier: &mut [Group]) -> Result<Option<Want>> {
    for group in earlier {
        let same = |earlier: &&mut Want| earlier.at == want.at && !picks_port(&want.at);
        let Some(first) = group.wants.iter_mut().find(same) else {
            continue;
        };
        if group.spec.options != spec.options {
            return Err(Error::usage(format!(
                "{spec} is given twice, with other options"
            )));
        }
        if first.name.is_some() && want.name.is_some() && first.name != want.name {
            return Err(Error::usage(format!(
                "{spec} is given twice, under two names"
            )));
        }
        first.name = want.name.or(first.name.take());
        return Ok(None);
    }
    Ok(Some(want))
}

/// Whether the kernel chooses the port: then two equal addresses are two sockets.
fn picks_port(at: &At) -> bool {
    matches!(at, At::Address(Bound::Tcp(at) | Bound::Udp(at)) if at.port() == 0)
        || matches!(at, At::Address(Bound::Vsock { port: 0, .. }))
}

fn wants(spec: &ListenSpec) -> Result<Vec<Want>> {
    let places: Vec<At> = match &spec.address {
        Address::Tcp(at) => resolve(at, "tcp", spec)?
            .into_iter()
            .map(|at| At::Address(Bound::Tcp(at)))
            .collect(),
        Address::Udp(at) => resolve(at, "udp", spec)?
            .into_iter()
            .map(|at| At::Address(Bound::Udp(at)))
            .collect(),
        Address::Unix(kind, path) => vec![At::Address(Bound::Unix(*kind, absolute(path)))],
        Address::Abstract(kind, name) => vec![At::Address(Bound::Abstract(
            *kind,
            name.clone().into_bytes(),
        ))],
        Address::Vsock { cid, port } => vec![At::Address(Bound::Vsock {
            cid: *cid,
            port: *port,
        })],
        Address::Fd(fd) => vec![At::Fd(*fd)],
    };
    let several = places.len() > 1;
    let optional = |at: &At| {
        several
            && matches!(
                at,
                At::Address(Bound::Tcp(SocketAddr::V6(_)) | Bound::Udp(SocketAddr::V6(_)))
            )
    };
    let wants = |copy: Option<u32>| {
        let name = match (&spec.name, copy) {
            (Some(name), Some(copy)) => Some(name.copy(copy)),
            (name, _) => name.clone(),
        };
        places.iter().map(move |at| {
            let at = match at {
                At::Address(bound) => At::Address(bound.clone()),
                At::Fd(fd) => At::Fd(*fd),
            };
            Want {
                name: name.clone(),
                optional: optional(&at),
                at,
            }
        })
    };
    Ok(match spec.options.copies {
        None => wants(None).collect(),
        Some(copies) => (0..copies)
            .flat_map(|copy| wants(Some(copy)).collect::<Vec<_>>())
            .collect(),
    })
}

/// The absolute path, so that it stays true for a process in another working directory. If the
/// absolute path is too long for a socket address, the path as it was given.
pub(super) fn absolute(path: &Path) -> PathBuf {
    match std::path::absolute(path) {
        Ok(absolute) if absolute.as_os_str().len() <= MAX_UNIX => absolute,
        _ => path.to_owned(),
    }
}

/// Every address of the endpoint's host, each once, in the order of the resolver.
fn resolve(endpoint: &Endpoint, protocol: &str, spec: &ListenSpec) -> Result<Vec<SocketAddr>> {
    let port = match &endpoint.port {
        Port::Number(port) => *port,
        Port::Service(name) => service(name, protocol)?,
    };
    let host = match &endpoint.host {
        Host::Any if spec.options.v6only || has_ipv6() => {
            return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into()]);
        }
        Host::Any => return Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]),
        Host::V4(address) => return Ok(vec![(IpAddr::V4(*address), port).into()]),
        Host::V6(address, None) => return Ok(vec![(IpAddr::V6(*address), port).into()]),
        Host::V6(address, Some(zone)) => format!("{address}%{zone}"),
        Host::Name(name) => name.clone(),
    };
    let found = (host.as_str(), port).to_socket_addrs();
    let found = found
        .map_err(|error| Error::system(format!("cannot resolve host {host}"), reason(&error)))?;
    let mut addresses: Vec<SocketAddr> = vec![];
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Error::system(
            format!("cannot resolve host {host}"),
            "it has no address",
        ));
    }
    Ok(addresses)
}

fn service(name: &str, protocol: &str) -> Result<u16> {
    let what = || format!("cannot find the port of service '{name}'");
    let table = std::fs::read("/etc/services")
        .map_err(|error| Error::system(what(), format!("/etc/services: {}", reason(&error))))?;
    services::port(&String::from_utf8_lossy(&table), name, protocol).ok_or_else(|| {
        Error::system(what(), format!("/etc/services has none for {protocol}"))
            .hint("an address is HOST:PORT; a path begins with / or ./")
    })
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::DGRAM, None).is_ok()
}
