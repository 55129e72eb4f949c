//! The options of an address, set on a socket and read back from it.

use std::io;
use std::os::fd::AsFd;

use nix::libc;
use nix::sys::socket::SetSockOpt;
use nix::{setsockopt_impl, sockopt_impl};
use socket2::{SockRef, Socket};

use crate::error::reason;
use crate::error::{Error, Result};
use crate::wire::address::{Bound, Options};
use crate::wire::size::Size;

/// What the system allows where it does not say (Linux's own default).
const USUAL_SOMAXCONN: u32 = 4096;

/// A backlog: what was asked for, and what the system makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    asked: Option<u32>,
    allowed: u32,
}

impl Backlog {
    /// The backlog `asked` for, or the system's maximum.
    pub fn new(asked: Option<u32>) -> Backlog {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        Backlog {
            asked,
            allowed: allowed
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(USUAL_SOMAXCONN),
        }
    }

    /// The argument of listen(2), which caps it itself: somaxconn may be another one where it is not readable.
    pub fn argument(self) -> i32 {
        i32::try_from(self.asked.unwrap_or(u32::MAX)).unwrap_or(i32::MAX)
    }

    /// How many connections may wait.
    pub fn effective(self) -> u32 {
        self.asked
            .map_or(self.allowed, |asked| asked.min(self.allowed))
    }

    /// What was asked for, if it is more than the system allows.
    pub fn shortfall(self) -> Option<u32> {
        self.asked.filter(|asked| *asked > self.allowed)
    }
}

sockopt_impl!(
    /// How many Fast Open connections may be pending.
    TcpFastOpen, SetOnly, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, libc::c_int
);
sockopt_impl!(
    /// For how many seconds a connection without data is not worth an accept.
    TcpDeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, libc::c_int
);

/// Names the option that could not be set.
fn setting<E: Into<io::Error>>(option: &str, at: &Bound, done: Result<(), E>) -> Result<()> {
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

/// Sets what holds only if it is set before bind(2): it is part of the address.
pub fn before_bind(socket: &Socket, at: &Bound, options: &Options) -> Result<()> {
    let v6 = matches!(at, Bound::Tcp(at) | Bound::Udp(at) if at.is_ipv6());
    if matches!(at, Bound::Tcp(_)) {
        // Otherwise connections of the last life that linger in TIME_WAIT keep the address from us.
        setting("SO_REUSEADDR", at, socket.set_reuse_address(true))?;
    }
    if v6 {
        // Said either way, because the system's default (bindv6only) may be either.
        setting("v6only", at, socket.set_only_v6(options.v6only))?;
    }
    if options.reuseport || options.copies.is_some() {
        setting("reuseport", at, socket.set_reuse_port(true))?;
    }
    if options.freebind {
        let done = if v6 {
            socket.set_freebind_v6(true)
        } else {
            socket.set_freebind_v4(true)
        };
        setting("freebind", at, done)?;
    }
    Ok(())
}

/// Sets what can be set at any time, also anew on a listener that was inherited. What is not given is left as it is.
///
/// `nonblock` is not among them: it belongs to the open socket itself, so setting it anew would change it under those who share it.
pub fn settle(fd: &impl AsFd, at: &Bound, options: &Options) -> Result<()> {
    let socket = SockRef::from(fd);
    if let Some(device) = &options.device {
        setting("device", at, socket.bind_device(Some(device.as_bytes())))?;
    }
    if let Some(mark) = options.mark {
        setting("mark", at, socket.set_mark(mark))?;
    }
    if let Some(size) = options.rcvbuf {
        setting("rcvbuf", at, socket.set_recv_buffer_size(bytes(size)))?;
    }
    if let Some(size) = options.sndbuf {
        setting("sndbuf", at, socket.set_send_buffer_size(bytes(size)))?;
    }
    if options.nodelay {
        setting("nodelay", at, socket.set_tcp_nodelay(true))?;
    }
    if options.keepalive {
        setting("keepalive", at, socket.set_keepalive(true))?;
    }
    if let Some(pending) = options.fastopen {
        setting("fastopen", at, TcpFastOpen.set(fd, &int(pending.into())))?;
    }
    if let Some(patience) = options.defer_accept {
        setting(
            "defer-accept",
            at,
            TcpDeferAccept.set(fd, &int(patience.as_secs())),
        )?;
    }
    Ok(())
}

fn int(number: u64) -> libc::c_int {
    libc::c_int::try_from(number).unwrap_or(libc::c_int::MAX)
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// What the system made less of than was asked for, a line each.
pub fn shortfalls(fd: &impl AsFd, at: &Bound, options: &Options) -> Vec<String> {
    let socket = SockRef::from(fd);
    // The kernel doubles what it is given, for its own book-keeping, and tells the doubled value.
    let line = |option: &str, limit: &str, asked: Option<Size>, got: io::Result<usize>| {
        let got = got.ok()? / 2;
        let asked = bytes(asked?);
        (got < asked).then(|| format!("{at}: {option} of {asked} bytes is asked for, {got} is what the system allows ({limit})"))
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
