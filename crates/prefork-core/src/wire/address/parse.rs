//! Parses the grammar of addresses.

use std::path::PathBuf;
use std::str::FromStr;

use super::{Address, Endpoint, Kind, ListenSpec, Name, Options, VSOCK_ANY};
use crate::wire::text::shown;

/// The longest path or abstract name of a Unix socket: `sun_path` without its NUL, unix(7).
pub const MAX_UNIX: usize = 107;

impl FromStr for ListenSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Options are checked here as well: their values stand in messages.
        without_control_characters(text)?;
        let mut parts = split(text).into_iter();
        let first = parts.next().unwrap_or_default();
        let (name, address) = match first.split_once('=') {
            Some((name, address)) if Name::is_valid(name) => (Some(Name::from_str(name)?), address),
            _ => (None, first.as_str()),
        };
        let address: Address = address.parse()?;
        let mut options = Options::default();
        for option in parts {
            options.set(&option)?;
        }
        if let Some(option) = options.misfit(&address) {
            return Err(format!("option '{option}' does not fit {address}"));
        }
        if let (Some(name), Some(copies)) = (&name, options.copies) {
            // The name of the last copy is the longest, and must still be a name.
            Name::from_str(name.copy(copies).as_str())?;
        }
        Ok(ListenSpec {
            name,
            address,
            options,
        })
    }
}

impl FromStr for Options {
    type Err = String;

    /// Parses what [`Options`] displays: `,backlog=5,nodelay`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Options::default();
        for option in split(text).into_iter().skip(1) {
            options.set(&option)?;
        }
        Ok(options)
    }
}

impl FromStr for Address {
    type Err = String;

    /// Parses an address that stands alone: without name, options and escapes.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an address is missing".into());
        }
        without_control_characters(text)?;
        if text.starts_with(['/', '@']) || text.starts_with("./") || text.starts_with("../") {
            return unix(Kind::Stream, text);
        }
        match text.split_once(':') {
            Some(("tcp", at)) => Endpoint::parse(at).map(Address::Tcp),
            Some(("udp", at)) => Endpoint::parse(at).map(Address::Udp),
            Some(("unix", path)) => unix(Kind::Stream, path),
            Some(("unixgram", path)) => unix(Kind::Datagram, path),
            Some(("unixseq", path)) => unix(Kind::Seqpacket, path),
            Some(("vsock", at)) => vsock(at),
            Some(("fd", number)) => fd(number),
            _ => Endpoint::parse(text).map(Address::Tcp),
        }
    }
}

fn without_control_characters(text: &str) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err(format!("'{}' has control characters", shown(text)));
    }
    Ok(())
}

/// Splits at the commas that are not escaped, and removes the escapes.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![];
    let mut part = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' => parts.push(std::mem::take(&mut part)),
            '\\' => part.push(
                chars
                    .next_if(|next| matches!(next, ',' | '\\'))
                    .unwrap_or('\\'),
            ),
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

fn unix(kind: Kind, path: &str) -> Result<Address, String> {
    let (name, is_abstract) = match path.strip_prefix('@') {
        Some(name) => (name, true),
        None => (path, false),
    };
    if name.is_empty() {
        return Err("a Unix socket needs a path or a name".into());
    }
    if name.len() > MAX_UNIX {
        return Err(format!(
            "'{path}' is longer than the {MAX_UNIX} bytes that a Unix socket's address may have"
        ));
    }
    if is_abstract {
        return Ok(Address::Abstract(kind, name.to_owned()));
    }
    if name.ends_with('/') || name.ends_with("/.") || name.ends_with("/..") {
        return Err(format!("'{path}' names a directory"));
    }
    Ok(Address::Unix(kind, PathBuf::from(name)))
}

fn vsock(text: &str) -> Result<Address, String> {
    let fail = || {
        format!(
            "'vsock:{text}' is not vsock:CID:PORT \
             (two numbers; without CID: every CID of this machine)"
        )
    };
    let number = |text: &str| {
        let digits = text.chars().all(|c| c.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(fail)
    };
    let (cid, port) = text.split_once(':').ok_or_else(fail)?;
    let cid = if cid.is_empty() {
        VSOCK_ANY
    } else {
        number(cid)?
    };
    Ok(Address::Vsock {
        cid,
        port: number(port)?,
    })
}

fn fd(text: &str) -> Result<Address, String> {
    let digits = text.chars().all(|c| c.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(Address::Fd(number)),
        _ => Err(format!("'fd:{text}': a descriptor is a number")),
    }
}
