//! How many connections wait at a listener, and how many can wait.
//!
//! For TCP, `TCP_INFO` of the listener has both. For a Unix socket only the kernel's socket
//! diagnosis has them (sock_diag(7), as `ss -x` uses it): a netlink request names the socket by its
//! inode, and the reply carries the queue.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socket,
};
use nix::{getsockopt_impl, libc, sockopt_impl};
use socket2::{Domain, SockRef, Type};

use super::netlink::{
    HEADER_LEN, NLMSG_ERROR, SOCK_DIAG_BY_FAMILY, attribute, header, u16_at, u32_at,
};

/// The accept queue of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// The connections that wait to be accepted.
    pub queued: u32,
    /// The backlog: the most connections that can wait, after the kernel capped it.
    pub backlog: u32,
}

/// The accept queue of one listener; see [`QueueReader::depth`].
///
/// # Errors
/// As [`QueueReader::depth`].
pub fn depth(fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
    QueueReader::new().depth(fd)
}

/// How many connections a TCP listener has dropped because its queue was full, or datagrams a UDP
/// socket. `None` for other sockets (the clients of a Unix socket wait), and before Linux 4.12.
pub fn drops(fd: BorrowedFd<'_>) -> Option<u32> {
    let domain = SockRef::from(&fd).domain().ok()?;
    let is_inet = domain == Domain::IPV4 || domain == Domain::IPV6;
    let [.., drops] = getsockopt(&fd, MemInfo).ok().filter(|_| is_inet)?;
    Some(drops)
}

/// Reads the queues of many listeners over one netlink socket, which the first Unix listener opens.
#[derive(Debug, Default)]
pub struct QueueReader {
    netlink: Option<OwnedFd>,
    sequence: u32,
}

impl QueueReader {
    /// A reader that has no netlink socket yet.
    pub fn new() -> QueueReader {
        QueueReader::default()
    }

    /// The accept queue of the listener `fd`. `None` for datagram sockets, sockets that do not
    /// listen, vsock, and Unix sockets of another network namespace. Never blocks.
    ///
    /// # Errors
    /// `fd` is not a socket, or the kernel was built without diagnosis of Unix sockets.
    pub fn depth(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
        let socket = SockRef::from(&fd);
        let kind = socket.r#type()?;
        if kind != Type::STREAM && kind != Type::SEQPACKET {
            return Ok(None);
        }
        match socket.domain()? {
            Domain::IPV4 | Domain::IPV6 if kind == Type::STREAM => tcp_depth(fd),
            Domain::UNIX => self.unix_depth(inode(fd)?),
            _ => Ok(None),
        }
    }

    fn unix_depth(&mut self, inode: u64) -> io::Result<Option<Depth>> {
        // The request has 32 bits for it.
        let Ok(inode) = u32::try_from(inode) else {
            return Ok(None);
        };
        match self.request_unix(inode)? {
            DiagReply::Queue(depth) => Ok(depth),
            // ENOENT: the socket is of another network namespace.
            DiagReply::Refused(Errno::ENOENT) | DiagReply::Unrelated => Ok(None),
            DiagReply::Refused(errno) => Err(errno.into()),
        }
    }

    fn request_unix(&mut self, inode: u32) -> io::Result<DiagReply> {
        self.sequence = self.sequence.wrapping_add(1);
        let netlink = match &mut self.netlink {
            Some(open) => open,
            closed => closed.insert(socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkSockDiag,
            )?),
        };
        let netlink = netlink.as_raw_fd();
        send(
            netlink,
            &unix_request(inode, self.sequence),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let mut buffer = [0; 4096];
        // The kernel queues its reply within send(2), so recv(2) need not wait. A reply with an
        // older sequence number belongs to a request that failed half-way: skip it.
        loop {
            let read = recv(netlink, &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            match parse_reply(buffer.get(..read).unwrap_or_default(), inode, self.sequence) {
                DiagReply::Unrelated => {}
                reply => return Ok(reply),
            }
        }
    }
}

/// The beginning of `struct tcp_info`, as 32-bit words. Every kernel has that much of it.
type TcpInfoHead = [u32; 8];

sockopt_impl!(
    /// `TCP_INFO`, cut to its beginning: nix's own getter fails if the structure of the kernel has
    /// another size than its own.
    TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfoHead
);

/// What `SO_MEMINFO` tells of a socket; the last number is that of the drops (`SK_MEMINFO_DROPS`).
type MemInfoWords = [u32; 9];

sockopt_impl!(
    /// The memory and the drops of a socket. A kernel with fewer numbers than these returns a
    /// shorter structure, which is an error here.
    MemInfo, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, MemInfoWords
);

fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}

fn tcp_depth(fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
    // The first byte is tcpi_state. For a listener, tcpi_unacked (word 6) is the queue and
    // tcpi_sacked (word 7) the backlog.
    let [head, _, _, _, _, _, queued, backlog] = getsockopt(&fd, TcpInfo)?;
    let [state, ..] = head.to_ne_bytes();
    Ok((state == TCP_LISTEN).then_some(Depth { queued, backlog }))
}

/// The state of a socket that listens. Unix sockets use it too.
const TCP_LISTEN: u8 = 10;

/// The length of `struct unix_diag_msg`: family, type, state, padding, inode, cookie.
const UNIX_DIAG_MSG_LEN: usize = 16;
/// The bit that asks for the queue.
const UDIAG_SHOW_RQLEN: u32 = 0x10;
/// The attribute that carries the queue.
const UNIX_DIAG_RQLEN: u16 = 4;

/// The request for one Unix socket: `struct nlmsghdr`, then `struct unix_diag_req`.
fn unix_request(inode: u32, sequence: u32) -> Vec<u8> {
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: u32 = u32::MAX;
    let mut bytes = header(HEADER_LEN + 24, 0, sequence);
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [ANY_STATE, inode, UDIAG_SHOW_RQLEN, NO_COOKIE, NO_COOKIE] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// What the kernel replied, in one netlink datagram.
#[derive(Debug, PartialEq, Eq)]
enum DiagReply {
    /// The socket exists; its queue, if it listens.
    Queue(Option<Depth>),
    /// The kernel refused the request.
    Refused(Errno),
    /// The datagram is no reply to this request.
    Unrelated,
}

/// Parses one netlink datagram. It accepts any bytes.
fn parse_reply(bytes: &[u8], inode: u32, sequence: u32) -> DiagReply {
    let length = u32_at(bytes, 0).and_then(|length| usize::try_from(length).ok());
    let Some(message) = length.and_then(|length| bytes.get(..length)) else {
        return DiagReply::Unrelated;
    };
    if u32_at(message, 8) != Some(sequence) {
        return DiagReply::Unrelated;
    }
    match u16_at(message, 4) {
        Some(NLMSG_ERROR) => match u32_at(message, HEADER_LEN) {
            Some(number) => {
                DiagReply::Refused(Errno::from_raw(number.cast_signed().wrapping_neg()))
            }
            None => DiagReply::Unrelated,
        },
        Some(SOCK_DIAG_BY_FAMILY) if u32_at(message, HEADER_LEN + 4) == Some(inode) => {
            let listens = message.get(HEADER_LEN + 2) == Some(&TCP_LISTEN);
            let attributes = message
                .get(HEADER_LEN + UNIX_DIAG_MSG_LEN..)
                .unwrap_or_default();
            DiagReply::Queue(find_queue(attributes).filter(|_| listens))
        }
        _ => DiagReply::Unrelated,
    }
}

/// Finds the queue among the attributes.
fn find_queue(attributes: &[u8]) -> Option<Depth> {
    let value = attribute(attributes, UNIX_DIAG_RQLEN)?;
    Some(Depth {
        queued: u32_at(value, 0)?,
        backlog: u32_at(value, 4)?,
    })
}

#[cfg(test)]
mod tests;
