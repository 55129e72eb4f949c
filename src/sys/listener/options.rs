//! The options of an address: set on a socket, and read back to see what the kernel made of them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{GetSockOpt, SetSockOpt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{SockRef, Socket};

use crate::error::{Error, Result, reason};
use crate::wire::address::size::Size;
use crate::wire::address::{Bound, Options};

/// The limit where somaxconn cannot be read: the default since Linux 5.4.
const DEFAULT_SOMAXCONN: u32 = 4096;

/// A backlog: the number asked for, and the number that the kernel allows (net.core.somaxconn).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    asked: Option<u32>,
    allowed: u32,
}

impl Backlog {
    /// The backlog `asked` for; the maximum of the kernel if there is none.
    pub fn new(asked: Option<u32>) -> Backlog {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        Backlog {
            asked,
            allowed: allowed
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(DEFAULT_SOMAXCONN),
        }
    }

    /// The argument of listen(2). It is not capped here: the kernel caps it, and knows its own
    /// limit where somaxconn cannot be read.
    pub fn argument(self) -> i32 {
        i32::try_from(self.asked.unwrap_or(u32::MAX)).unwrap_or(i32::MAX)
    }

    /// How many connections can wait to be accepted.
    pub fn effective(self) -> u32 {
        self.asked
            .map_or(self.allowed, |asked| asked.min(self.allowed))
    }

    /// The number asked for, if the kernel allows less.
    pub fn shortfall(self) -> Option<u32> {
        self.asked.filter(|asked| *asked > self.allowed)
    }
}

sockopt_impl!(
    /// The most Fast Open connections that may be pending.
    TcpFastOpen, Both, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, libc::c_int
);
sockopt_impl!(
    /// The seconds that the kernel waits for data before it offers a connection to accept(2).
    TcpDeferAccept, Both, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, libc::c_int
);

/// Adds the name of the option to the error.
fn with_option_name<E: Into<io::Error>>(
    option: &str,
    at: &Bound,
    done: Result<(), E>,
) -> Result<()> {
    done.map_err(|error| {
        let error: io::Error = error.into();
        let failed = Error::system(format!("cannot set {option} on {at}"), reason(&error));
        match error.raw_os_error() {
            Some(libc::EPERM) => failed.hint("it needs a capability: CAP_NET_ADMIN or CAP_NET_RAW"),
            Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT) => {
                failed.hint("it does not fit this kind of socket")
            }
            _ => failed,
        }
    })
}

/// Sets the options that have an effect only if they are set before bind(2).
pub fn set_before_bind(socket: &Socket, at: &Bound, options: &Options) -> Result<()> {
    let v6 = matches!(at, Bound::Tcp(at) | Bound::Udp(at) if at.is_ipv6());
    if matches!(at, Bound::Tcp(_)) {
        // Without it, connections of the previous server in TIME_WAIT make bind(2) fail.
        with_option_name("SO_REUSEADDR", at, socket.set_reuse_address(true))?;
    }
    if v6 {
        // Set in both cases: the default depends on net.ipv6.bindv6only.
        with_option_name("v6only", at, socket.set_only_v6(options.v6only))?;
    }
    if options.reuseport || options.copies.is_some() {
        with_option_name("reuseport", at, socket.set_reuse_port(true))?;
    }
    if options.freebind {
        let done = if v6 {
            socket.set_freebind_v6(true)
        } else {
            socket.set_freebind_v4(true)
        };
        with_option_name("freebind", at, done)?;
    }
    Ok(())
}

/// Sets the options that can be set at any time, also on an inherited listener. An option that is
/// not given stays as it is.
///
/// `nonblock` is not set here: O_NONBLOCK belongs to the open file description, so it would change
/// for all processes that share an inherited listener.
pub fn set_any_time(fd: &impl AsFd, at: &Bound, options: &Options) -> Result<()> {
    let socket = SockRef::from(fd);
    if let Some(device) = &options.device {
        with_option_name("device", at, socket.bind_device(Some(device.as_bytes())))?;
    }
    if let Some(mark) = options.mark {
        with_option_name("mark", at, socket.set_mark(mark))?;
    }
    if let Some(size) = options.rcvbuf {
        with_option_name("rcvbuf", at, socket.set_recv_buffer_size(bytes(size)))?;
    }
    if let Some(size) = options.sndbuf {
        with_option_name("sndbuf", at, socket.set_send_buffer_size(bytes(size)))?;
    }
    if options.nodelay {
        with_option_name("nodelay", at, socket.set_tcp_nodelay(true))?;
    }
    if options.keepalive {
        with_option_name("keepalive", at, socket.set_keepalive(true))?;
    }
    if let Some(pending) = options.fastopen {
        with_option_name("fastopen", at, TcpFastOpen.set(fd, &int(pending.into())))?;
    }
    if let Some(patience) = options.defer_accept {
        with_option_name(
            "defer-accept",
            at,
            TcpDeferAccept.set(fd, &int(patience.as_secs())),
        )?;
    }
    Ok(())
}

/// The options that a bound socket has, but for backlog and path. A size is given only if it is not
/// the system's default, and an option that cannot be read not at all.
pub fn read_back(fd: &impl AsFd, at: &Bound) -> Options {
    let socket = SockRef::from(fd);
    let is_tcp = matches!(at, Bound::Tcp(_));
    let (is_v4, is_v6) = match at {
        Bound::Tcp(at) | Bound::Udp(at) => (at.is_ipv4(), at.is_ipv6()),
        Bound::Unix(..) | Bound::Abstract(..) | Bound::Vsock { .. } | Bound::Other { .. } => {
            (false, false)
        }
    };
    let is_inet = is_v4 || is_v6;
    let default = match (socket.domain(), socket.r#type()) {
        (Ok(domain), Ok(kind)) => Socket::new(domain, kind, None).ok(),
        _ => None,
    };
    let size = |of: fn(&Socket) -> io::Result<usize>| {
        let (own, default) = (of(&socket).ok()?, of(default.as_ref()?).ok()?);
        // The kernel reports twice what was set: socket(7).
        (own != default).then(|| Size(u64::try_from(own / 2).unwrap_or(u64::MAX)))
    };
    let number = |read: nix::Result<libc::c_int>| {
        let number = u32::try_from(read.ok().filter(|_| is_tcp)?).ok()?;
        Some(number).filter(|number| *number > 0)
    };
    let device = socket.device().ok().flatten();
    Options {
        reuseport: is_inet && socket.reuse_port().unwrap_or(false),
        v6only: is_v6 && socket.only_v6().unwrap_or(false),
        nodelay: is_tcp && socket.tcp_nodelay().unwrap_or(false),
        keepalive: is_tcp && socket.keepalive().unwrap_or(false),
        fastopen: number(TcpFastOpen.get(fd)),
        defer_accept: number(TcpDeferAccept.get(fd)).map(|time| Duration::from_secs(time.into())),
        rcvbuf: size(Socket::recv_buffer_size),
        sndbuf: size(Socket::send_buffer_size),
        freebind: (is_v4 && socket.freebind_v4().unwrap_or(false))
            || (is_v6 && socket.freebind_v6().unwrap_or(false)),
        device: device
            .filter(|_| is_inet)
            .and_then(|name| String::from_utf8(name).ok()),
        mark: socket.mark().ok().filter(|mark| *mark > 0),
        nonblock: rustix::fs::fcntl_getfl(fd)
            .is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK)),
        ..Options::default()
    }
}

fn int(number: u64) -> libc::c_int {
    libc::c_int::try_from(number).unwrap_or(libc::c_int::MAX)
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// One line for each size that the kernel set lower than was asked for.
pub fn shortfalls(fd: &impl AsFd, at: &Bound, options: &Options) -> Vec<String> {
    let socket = SockRef::from(fd);
    // The kernel doubles the size, for its own book-keeping, and reports the doubled one:
    // socket(7).
    let line = |option: &str, limit: &str, asked: Option<Size>, got: io::Result<usize>| {
        let got = got.ok()? / 2;
        let asked = bytes(asked?);
        (got < asked).then(|| {
            format!(
                "{at}: {option} of {asked} bytes is asked for, {got} is what the system allows \
                 ({limit})"
            )
        })
    };
    let receive = options.rcvbuf.and_then(|_| {
        line(
            "rcvbuf",
            "net.core.rmem_max",
            options.rcvbuf,
            socket.recv_buffer_size(),
        )
    });
    let send = options.sndbuf.and_then(|_| {
        line(
            "sndbuf",
            "net.core.wmem_max",
            options.sndbuf,
            socket.send_buffer_size(),
        )
    });
    receive.into_iter().chain(send).collect()
}
