//! The options of an address, and which option fits which family.

use std::fmt;
use std::time::Duration;

use super::{Address, Endpoint, Host, Kind, escape};
use crate::wire::address::size::Size;

/// The most copies of one listener.
pub const MAX_COPIES: u32 = 1024;

/// The longest name of a network interface, without its NUL (`IFNAMSIZ`).
const MAX_DEVICE: usize = 15;

/// How to listen. For an option that is absent the system's default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `listen(2)`'s backlog: how many connections may wait to be accepted.
    pub backlog: Option<u32>,
    /// `SO_REUSEPORT`.
    pub reuseport: bool,
    /// Open this many sockets of the address, with `SO_REUSEPORT`.
    pub copies: Option<u32>,
    /// `IPV6_V6ONLY`.
    pub v6only: bool,
    /// `TCP_NODELAY`, which accepted connections inherit.
    pub nodelay: bool,
    /// `SO_KEEPALIVE`, which accepted connections inherit.
    pub keepalive: bool,
    /// `TCP_FASTOPEN`: how many connections may be half-open.
    pub fastopen: Option<u32>,
    /// `TCP_DEFER_ACCEPT`, in whole seconds.
    pub defer_accept: Option<Duration>,
    /// `SO_RCVBUF`, in bytes.
    pub rcvbuf: Option<Size>,
    /// `SO_SNDBUF`, in bytes.
    pub sndbuf: Option<Size>,
    /// `IP_FREEBIND`: the machine need not have the address yet.
    pub freebind: bool,
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `O_NONBLOCK`.
    pub nonblock: bool,
    /// The permission bits of the Unix socket's path.
    pub mode: Option<u32>,
    /// The owner of the path, by name or number.
    pub owner: Option<String>,
    /// The group of the path, by name or number.
    pub group: Option<String>,
}

impl Options {
    /// Reads one `OPTION[=VALUE]` into `self`.
    pub(super) fn set(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        match key {
            "backlog" => once(key, &mut self.backlog, count(key, value)?),
            "reuseport" => flag(key, &mut self.reuseport, value),
            "copies" => once(key, &mut self.copies, copies(key, value)?),
            "v6only" => flag(key, &mut self.v6only, value),
            "nodelay" => flag(key, &mut self.nodelay, value),
            "keepalive" => flag(key, &mut self.keepalive, value),
            "fastopen" => once(key, &mut self.fastopen, count(key, value)?),
            "defer-accept" => once(key, &mut self.defer_accept, seconds(key, value)?),
            "rcvbuf" => once(key, &mut self.rcvbuf, buffer(key, value)?),
            "sndbuf" => once(key, &mut self.sndbuf, buffer(key, value)?),
            "freebind" => flag(key, &mut self.freebind, value),
            "device" => once(key, &mut self.device, device(key, value)?),
            "mark" => once(key, &mut self.mark, mark(key, value)?),
            "nonblock" => flag(key, &mut self.nonblock, value),
            "mode" => once(key, &mut self.mode, mode(key, value)?),
            "owner" => once(key, &mut self.owner, user_or_group(key, value)?),
            "group" => once(key, &mut self.group, user_or_group(key, value)?),
            "" => {
                Err("an option is missing after a comma (a comma in a path is written \\,)".into())
            }
            _ => Err(format!(
                "unknown option '{key}' (a comma in a path is written \\,)"
            )),
        }
    }

    /// Returns the first option that does not fit `address`.
    pub(super) fn misfit(&self, address: &Address) -> Option<&'static str> {
        let fits = Fits::of(address);
        let given = [
            ("backlog", self.backlog.is_some(), fits.listen),
            ("reuseport", self.reuseport, fits.inet),
            ("copies", self.copies.is_some(), fits.inet),
            ("v6only", self.v6only, fits.v6),
            ("nodelay", self.nodelay, fits.tcp),
            ("keepalive", self.keepalive, fits.tcp),
            ("fastopen", self.fastopen.is_some(), fits.tcp),
            ("defer-accept", self.defer_accept.is_some(), fits.tcp),
            ("freebind", self.freebind, fits.inet),
            ("device", self.device.is_some(), fits.inet),
            ("mark", self.mark.is_some(), fits.any_inet),
            ("mode", self.mode.is_some(), fits.path),
            ("owner", self.owner.is_some(), fits.path),
            ("group", self.group.is_some(), fits.path),
        ];
        given
            .into_iter()
            .find(|(_, given, fits)| *given && !fits)
            .map(|(key, ..)| key)
    }
}

/// Which groups of options fit an address. For `fd:N` these are the options that can still be set
/// on a bound socket; its family is not known before the descriptor is looked at.
struct Fits {
    listen: bool,
    inet: bool,
    any_inet: bool,
    v6: bool,
    tcp: bool,
    path: bool,
}

impl Fits {
    fn of(address: &Address) -> Fits {
        let v6 = |at: &Endpoint| !matches!(at.host, Host::V4(_));
        let none = Fits {
            listen: false,
            inet: false,
            any_inet: false,
            v6: false,
            tcp: false,
            path: false,
        };
        match address {
            Address::Tcp(at) => Fits {
                listen: true,
                inet: true,
                any_inet: true,
                v6: v6(at),
                tcp: true,
                path: false,
            },
            Address::Udp(at) => Fits {
                inet: true,
                any_inet: true,
                v6: v6(at),
                ..none
            },
            Address::Unix(kind, _) => Fits {
                listen: kind.listens(),
                path: true,
                ..none
            },
            Address::Abstract(kind, _) => Fits {
                listen: kind.listens(),
                ..none
            },
            Address::Vsock { .. } => Fits {
                listen: Kind::Stream.listens(),
                ..none
            },
            Address::Fd(_) => Fits {
                listen: true,
                any_inet: true,
                tcp: true,
                ..none
            },
        }
    }
}

/// Sets an option that takes a value.
fn once<T>(key: &str, slot: &mut Option<T>, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("option '{key}' is given twice")),
    }
}

/// Sets an option that takes no value.
fn flag(key: &str, slot: &mut bool, value: Option<&str>) -> Result<(), String> {
    match value {
        Some(_) => Err(format!("option '{key}' takes no value")),
        None if *slot => Err(format!("option '{key}' is given twice")),
        None => {
            *slot = true;
            Ok(())
        }
    }
}

fn given<'a>(key: &str, value: Option<&'a str>) -> Result<&'a str, String> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("option '{key}' needs a value"))
}

/// A number from 1 to the largest `int`: the kernel takes these options as an `int`.
fn count(key: &str, value: Option<&str>) -> Result<u32, String> {
    let text = given(key, value)?;
    match text.parse() {
        Ok(number) if (1..=i32::MAX.unsigned_abs()).contains(&number) => Ok(number),
        _ => Err(format!(
            "option '{key}': '{text}' is not a number from 1 to {}",
            i32::MAX
        )),
    }
}

fn copies(key: &str, value: Option<&str>) -> Result<u32, String> {
    match count(key, value)? {
        number if number <= MAX_COPIES => Ok(number),
        number => Err(format!(
            "option '{key}': {number} is more than {MAX_COPIES}"
        )),
    }
}

/// A duration, rounded up: the kernel counts whole seconds, and 500ms must not become 0.
fn seconds(key: &str, value: Option<&str>) -> Result<Duration, String> {
    let text = given(key, value)?;
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("option '{key}': {error}"))?;
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    if (1..=u64::from(i32::MAX.unsigned_abs())).contains(&seconds) {
        return Ok(Duration::from_secs(seconds));
    }
    Err(format!("option '{key}': '{text}' is out of range"))
}

fn buffer(key: &str, value: Option<&str>) -> Result<Size, String> {
    let size: Size = given(key, value)?
        .parse()
        .map_err(|error| format!("option '{key}': {error}"))?;
    if (1..=u64::from(i32::MAX.unsigned_abs())).contains(&size.0) {
        return Ok(size);
    }
    Err(format!("option '{key}': '{size}' is out of range"))
}

fn device(key: &str, value: Option<&str>) -> Result<String, String> {
    let text = given(key, value)?;
    if text.len() <= MAX_DEVICE && text.chars().all(|c| c.is_ascii_graphic() && c != '/') {
        return Ok(text.to_owned());
    }
    Err(format!(
        "option '{key}': '{text}' is not the name of an interface"
    ))
}

/// A mark, decimal or hexadecimal (`0x10`, as netfilter's tools print it).
fn mark(key: &str, value: Option<&str>) -> Result<u32, String> {
    let text = given(key, value)?;
    let number = match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16),
        _ => text.parse(),
    };
    number.map_err(|_| format!("option '{key}': '{text}' is not a 32-bit number"))
}

fn mode(key: &str, value: Option<&str>) -> Result<u32, String> {
    let text = given(key, value)?;
    let octal = text.len() <= 4 && text.chars().all(|c| ('0'..='7').contains(&c));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(mode),
        _ => Err(format!(
            "option '{key}': '{text}' is not a mode such as 0660"
        )),
    }
}

fn user_or_group(key: &str, value: Option<&str>) -> Result<String, String> {
    let text = given(key, value)?;
    if text.contains(':') {
        return Err(format!("option '{key}': '{text}' is not a name"));
    }
    Ok(text.to_owned())
}

impl fmt::Display for Options {
    /// Writes `,backlog=5,nodelay`: each option with a comma before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            ("reuseport", self.reuseport),
            ("v6only", self.v6only),
            ("nodelay", self.nodelay),
            ("keepalive", self.keepalive),
            ("freebind", self.freebind),
            ("nonblock", self.nonblock),
        ];
        let number = |value: Option<u32>| value.map(|value| value.to_string());
        let values = [
            ("backlog", number(self.backlog)),
            ("copies", number(self.copies)),
            ("fastopen", number(self.fastopen)),
            (
                "defer-accept",
                self.defer_accept
                    .map(|value| format!("{}s", value.as_secs())),
            ),
            ("rcvbuf", self.rcvbuf.map(|value| value.to_string())),
            ("sndbuf", self.sndbuf.map(|value| value.to_string())),
            ("device", self.device.as_deref().map(escape)),
            ("mark", number(self.mark)),
            ("mode", self.mode.map(|mode| format!("{mode:04o}"))),
            ("owner", self.owner.as_deref().map(escape)),
            ("group", self.group.as_deref().map(escape)),
        ];
        for (key, _) in flags.iter().filter(|(_, given)| *given) {
            write!(f, ",{key}")?;
        }
        for (key, value) in values {
            if let Some(value) = value {
                write!(f, ",{key}={value}")?;
            }
        }
        Ok(())
    }
}
