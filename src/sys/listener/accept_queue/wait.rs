//! How long connections have waited in the accept queue of a TCP listener.
//!
//! No call tells it of a listener, but the kernel's socket diagnosis (sock_diag(7), as `ss -ti`
//! uses it) tells of each connection when it last sent data; of one that never did, that is when it
//! was made. A connection that no process has accepted yet has no inode, and has sent nothing.
//!
//! The kernel walks through all connections of its network namespace for this, so the master never
//! asks: `pf-status` does, and only of a queue in which connections wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::netlink::{
    HEADER_LEN, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, attribute, header, u16_at, u32_at,
};

/// The longest wait of a connection to this listener that is not accepted yet. `None`: none waits
/// that this network namespace knows of.
///
/// # Errors
/// The kernel has no diagnosis of TCP sockets, or forbids it.
pub fn longest(listener: SocketAddr) -> io::Result<Option<Duration>> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    // The kernel answers at once; this is only so that a fault of it is no hang.
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
    let request = request(listener);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut longest = None;
    loop {
        let datagram = receive(&netlink)?;
        let mut messages = datagram.as_slice();
        while let Some((kind, message, rest)) = next_message(messages) {
            messages = rest;
            match kind {
                NLMSG_DONE => return Ok(longest),
                NLMSG_ERROR => return Err(refusal(message)),
                _ => longest = longest.max(waited(message, listener.ip())),
            }
        }
    }
}

fn receive(netlink: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 32 * 1024];
    let read = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    buffer.truncate(read);
    if buffer.len() < HEADER_LEN {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buffer)
}

/// The attribute that carries `struct tcp_info`.
const INET_DIAG_INFO: u16 = 2;
const TCP_ESTABLISHED: u32 = 1;
/// The length of `struct inet_diag_msg`, and where it has what is read here.
const DIAG_LEN: usize = 72;
const LOCAL_ADDRESS_AT: usize = 8;
const INODE_AT: usize = 68;
/// Where `struct tcp_info` has `tcpi_last_data_sent`, in milliseconds.
const LAST_SENT_AT: usize = 44;

/// The request for all connections of a port: `struct nlmsghdr`, then `struct inet_diag_req_v2`.
fn request(listener: SocketAddr) -> Vec<u8> {
    const LENGTH: usize = HEADER_LEN + 56;
    // A connection that came over IPv4 to a dual-stack listener is of the listener's family too.
    let family = if listener.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let mut bytes = header(LENGTH, NLM_F_DUMP, 1);
    let info = 1_u8 << (INET_DIAG_INFO - 1);
    bytes.extend([family as u8, libc::IPPROTO_TCP as u8, info, 0]);
    bytes.extend((1_u32 << TCP_ESTABLISHED).to_ne_bytes());
    // The local port; the rest of the address, interface and cookie are not asked for.
    bytes.extend(listener.port().to_be_bytes());
    bytes.resize(LENGTH, 0);
    bytes
}

/// The first message of these bytes: its type, what follows its header, and the bytes after it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let kind = u16_at(bytes, 4)?;
    let message = bytes.get(HEADER_LEN..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message, rest))
}

/// How long this connection has waited, if it waits at this address.
fn waited(message: &[u8], listener: IpAddr) -> Option<Duration> {
    let is_accepted = u32_at(message, INODE_AT)? != 0;
    let local: [u8; 16] = *message.get(LOCAL_ADDRESS_AT..)?.first_chunk()?;
    let [a, b, c, d, ..] = local;
    let is_there = match listener {
        IpAddr::V4(ip) => ip.is_unspecified() || ip == Ipv4Addr::new(a, b, c, d),
        IpAddr::V6(ip) => ip.is_unspecified() || ip == Ipv6Addr::from(local),
    };
    if is_accepted || !is_there {
        return None;
    }
    let info = attribute(message.get(DIAG_LEN..)?, INET_DIAG_INFO)?;
    let milliseconds = u32_at(info, LAST_SENT_AT)?;
    Some(Duration::from_millis(milliseconds.into()))
}

fn refusal(message: &[u8]) -> io::Error {
    let number = u32_at(message, 0).map(|number| number.cast_signed().wrapping_neg());
    number.map_or(
        io::ErrorKind::InvalidData.into(),
        io::Error::from_raw_os_error,
    )
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::super::netlink::SOCK_DIAG_BY_FAMILY;
    use super::*;
    use crate::sys::machine::clock;

    #[test]
    fn a_connection_waits_from_its_handshake_until_it_is_accepted() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let own = listener.local_addr().expect("an address");
            assert_eq!(longest(own).expect("a diagnosis"), None, "{address}");
            let begin = clock::now();
            let _client = TcpStream::connect(("localhost", own.port()))
                .or_else(|_| TcpStream::connect(own))
                .expect("connected");
            let first = longest(own).expect("a diagnosis").expect("it waits");
            let later = loop {
                let later = longest(own).expect("a diagnosis").expect("it waits");
                if later > first {
                    break later;
                }
            };
            assert!(later <= clock::now().since(begin) + Duration::from_millis(20));
            let _accepted = listener.accept().expect("accepted");
            assert_eq!(longest(own).expect("a diagnosis"), None, "{address}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let mut bytes = request("127.0.0.1:80".parse().expect("an address"));
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            assert!(next_message(cut).is_none());
            assert_eq!(waited(cut, Ipv4Addr::LOCALHOST.into()), None);
            assert_eq!(attribute(cut, 77), None);
        }
        bytes.extend([0; 8]);
        let (kind, _, rest) = next_message(&bytes).expect("one");
        assert_eq!((kind, rest.len()), (SOCK_DIAG_BY_FAMILY, 8));
    }
}
