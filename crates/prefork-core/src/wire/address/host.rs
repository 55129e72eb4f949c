//! The host and port of a TCP or UDP address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses of the machine to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// All interfaces, by one dual-stack socket.
    Any,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, with the interface of a link-local one (`fe80::1%eth0`).
    V6(Ipv6Addr, Option<String>),
    /// A name, which is resolved when the listener is bound.
    Name(String),
}

/// A port: a number, or a service's name, which is looked up when the listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// A number; 0 means one that the kernel chooses.
    Number(u16),
    /// A service of `/etc/services`, see services(5).
    Service(String),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Endpoint {
    pub host: Host,
    pub port: Port,
}

impl Endpoint {
    /// Reads `HOST:PORT`, `[V6]:PORT`, `:PORT` or `PORT`.
    pub(super) fn parse(text: &str) -> Result<Endpoint, String> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, port) = rest
                .split_once("]:")
                .ok_or_else(|| format!("'{text}': an IPv6 host is written as in [::1]:80"))?;
            (parse_v6(host)?, port)
        } else {
            match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(format!(
                        "'{text}': an IPv6 host is written in brackets, as in [::1]:80"
                    ));
                }
                Some((host, port)) => (parse_host(host)?, port),
                None => (Host::Any, text),
            }
        };
        Ok(Endpoint {
            host,
            port: parse_port(port)?,
        })
    }
}

fn parse_v6(text: &str) -> Result<Host, String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let fits = |zone: &str| {
        !zone.is_empty()
            && zone
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
    };
    match address.parse() {
        Ok(address) if zone.is_none_or(fits) => Ok(Host::V6(address, zone.map(str::to_owned))),
        _ => Err(format!("'{text}' is not an IPv6 address")),
    }
}

fn parse_host(text: &str) -> Result<Host, String> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if let Ok(IpAddr::V4(address)) = text.parse() {
        return Ok(Host::V4(address));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if text.len() <= 255 && text.chars().all(fits) {
        return Ok(Host::Name(text.to_owned()));
    }
    Err(format!("'{text}' is not a host"))
}

fn parse_port(text: &str) -> Result<Port, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit()) {
        return text
            .parse()
            .map(Port::Number)
            .map_err(|_| format!("port {text} is out of range (0 to 65535)"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        return Ok(Port::Service(text.to_owned()));
    }
    Err(format!(
        "'{text}' is neither a port nor an address (a path begins with / or ./)"
    ))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => {}
            Host::V4(address) => write!(f, "{address}:")?,
            Host::V6(address, None) => write!(f, "[{address}]:")?,
            Host::V6(address, Some(zone)) => write!(f, "[{address}%{zone}]:")?,
            Host::Name(name) => write!(f, "{name}:")?,
        }
        match &self.port {
            Port::Number(number) => write!(f, "{number}"),
            Port::Service(name) => f.write_str(name),
        }
    }
}
