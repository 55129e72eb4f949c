//! How many connections wait at a listener, and how many can.
//!
//! TCP tells it by `TCP_INFO` on the listener itself. A Unix socket tells it only through the kernel's socket
//! diagnosis (sock_diag(7)), the way `ss -x` asks: a netlink request that names the socket by its inode.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, getsockopt, recv, send, socket,
};
use nix::{getsockopt_impl, libc, sockopt_impl};
use socket2::{Domain, SockRef, Type};

/// The accept queue of a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Connections that wait to be accepted.
    pub queued: u32,
    /// The backlog: the most that can wait, as the kernel has cut it down.
    pub backlog: u32,
}

/// The accept queue of one listener; see [`Depths::of`].
///
/// # Errors
/// What the system said.
pub fn depth(fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
    Depths::new().of(fd)
}

/// Looks at the queues of many listeners over one netlink socket, opened at the first Unix listener.
#[derive(Debug, Default)]
pub struct Depths {
    netlink: Option<OwnedFd>,
    sequence: u32,
}

impl Depths {
    /// Opens nothing yet.
    pub fn new() -> Depths {
        Depths::default()
    }

    /// The accept queue of the listener `fd`; `None` where there is none to know of: datagram sockets, sockets that do not
    /// listen, vsock, and Unix sockets of another network namespace. Never blocks.
    ///
    /// # Errors
    /// What the system said: `fd` is no socket, or the kernel was built without diagnosis of Unix sockets.
    pub fn of(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
        let socket = SockRef::from(&fd);
        let kind = socket.r#type()?;
        if kind != Type::STREAM && kind != Type::SEQPACKET {
            return Ok(None);
        }
        match socket.domain()? {
            Domain::IPV4 | Domain::IPV6 if kind == Type::STREAM => tcp_depth(fd),
            Domain::UNIX => self.unix_depth(crate::sys::process::proc_info::socket_inode(fd)?),
            _ => Ok(None),
        }
    }

    fn unix_depth(&mut self, inode: u64) -> io::Result<Option<Depth>> {
        let Ok(inode) = u32::try_from(inode) else {
            return Ok(None);
        };
        match self.ask_unix(inode)? {
            Answer::Depth(depth) => Ok(depth),
            Answer::Failed(Errno::ENOENT) | Answer::Other => Ok(None),
            Answer::Failed(errno) => Err(errno.into()),
        }
    }

    fn ask_unix(&mut self, inode: u32) -> io::Result<Answer> {
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
        // The kernel answers within the send, so there is nothing to wait for; older answers are leftovers of a failure.
        loop {
            let read = recv(netlink, &mut buffer, MsgFlags::MSG_DONTWAIT)?;
            match parse_answer(buffer.get(..read).unwrap_or_default(), inode, self.sequence) {
                Answer::Other => {}
                answer => return Ok(answer),
            }
        }
    }
}

/// The beginning of `struct tcp_info`, as 32-bit words: enough of it to be there in every kernel.
type TcpInfoHead = [u32; 8];

sockopt_impl!(
    /// `TCP_INFO`, cut to its head: nix's own reading would refuse a kernel whose structure has another size.
    TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, TcpInfoHead
);

fn tcp_depth(fd: BorrowedFd<'_>) -> io::Result<Option<Depth>> {
    // tcpi_state is the first byte; of a listener tcpi_unacked (word 6) is the queue and tcpi_sacked (word 7) the backlog.
    let [head, _, _, _, _, _, queued, backlog] = getsockopt(&fd, TcpInfo)?;
    let [state, ..] = head.to_ne_bytes();
    Ok((state == LISTEN).then_some(Depth { queued, backlog }))
}

/// `TCP_LISTEN` of the kernel, which Unix sockets use too.
const LISTEN: u8 = 10;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// `struct unix_diag_msg`: family, type, state, padding, inode, cookie.
const DIAG: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `UDIAG_SHOW_RQLEN`: ask for the queue.
const SHOW_QUEUE: u32 = 0x10;
/// `UNIX_DIAG_RQLEN`: the attribute that has it.
const QUEUE: u16 = 4;

/// The request for one Unix socket: `struct nlmsghdr`, then `struct unix_diag_req`.
fn unix_request(inode: u32, sequence: u32) -> Vec<u8> {
    const REQUEST: u16 = 1; // NLM_F_REQUEST
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: u32 = u32::MAX;
    let length: u32 = 40;
    let mut bytes = Vec::with_capacity(40);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [ANY_STATE, inode, SHOW_QUEUE, NO_COOKIE, NO_COOKIE] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// What one netlink datagram says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The socket was found: its queue, if it listens.
    Depth(Option<Depth>),
    /// The kernel refused.
    Failed(Errno),
    /// Nothing about this request.
    Other,
}

/// Reads one netlink datagram; total, whatever the bytes.
fn parse_answer(bytes: &[u8], inode: u32, sequence: u32) -> Answer {
    let length = word(bytes, 0).and_then(|length| usize::try_from(length).ok());
    let Some(message) = length.and_then(|length| bytes.get(..length)) else {
        return Answer::Other;
    };
    if word(message, 8) != Some(sequence) {
        return Answer::Other;
    }
    match half(message, 4) {
        Some(ERROR) => match word(message, HEADER) {
            Some(number) => Answer::Failed(Errno::from_raw(number.cast_signed().wrapping_neg())),
            None => Answer::Other,
        },
        Some(BY_FAMILY) if word(message, HEADER + 4) == Some(inode) => {
            let listens = message.get(HEADER + 2) == Some(&LISTEN);
            let attributes = message.get(HEADER + DIAG..).unwrap_or_default();
            Answer::Depth(find_queue(attributes).filter(|_| listens))
        }
        _ => Answer::Other,
    }
}

/// `NLMSG_ERROR`: a negative errno follows the header.
const ERROR: u16 = 2;

/// The queue among the attributes, each with its length and type first, and begun at a multiple of four.
fn find_queue(mut attributes: &[u8]) -> Option<Depth> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? == QUEUE {
            let value = attributes.get(4..length)?;
            return Some(Depth {
                queued: word(value, 0)?,
                backlog: word(value, 4)?,
            });
        }
        // A length below the attribute's own head would never end.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::unavailable;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use socket2::{SockAddr, Socket};

    #[test]
    fn a_tcp_listener_tells_its_queue() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                unavailable(&format!("no {address} here"));
                continue;
            };
            SockRef::from(&listener).listen(5).expect("listens");
            let at = listener.local_addr().expect("an address");
            assert_eq!(
                depth(listener.as_fd()).expect("told"),
                Some(Depth {
                    queued: 0,
                    backlog: 5
                })
            );
            // Once connect has returned here, the connection stands in the queue: loopback delivers within the call.
            let clients: Vec<_> = (0..3)
                .map(|_| TcpStream::connect(at).expect("connected"))
                .collect();
            assert_eq!(
                depth(listener.as_fd()).expect("told"),
                Some(Depth {
                    queued: 3,
                    backlog: 5
                })
            );
            let accepted = listener.accept().expect("accepted");
            assert_eq!(
                depth(listener.as_fd()).expect("told"),
                Some(Depth {
                    queued: 2,
                    backlog: 5
                })
            );
            drop((clients, accepted));
        }
    }

    /// Whether this kernel can be asked about Unix sockets: it is, about one that is certainly there.
    fn unix_diag_is_there(depths: &mut Depths) -> bool {
        let socket = UnixDatagram::unbound().expect("a socket");
        let inode = crate::sys::process::proc_info::socket_inode(socket.as_fd()).expect("an inode");
        match depths.ask_unix(u32::try_from(inode).expect("32 bits")) {
            Ok(Answer::Depth(None)) => true,
            answer => {
                unavailable(&format!("no diagnosis of Unix sockets: {answer:?}"));
                assert!(
                    matches!(answer, Err(_) | Ok(Answer::Failed(_))),
                    "{answer:?}"
                );
                false
            }
        }
    }

    #[test]
    fn unix_listeners_tell_their_queues_over_one_socket() {
        let mut depths = Depths::new();
        if !unix_diag_is_there(&mut depths) {
            return;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let (path, seqpacket_path) = (dir.path().join("s"), dir.path().join("q"));
        let listener = UnixListener::bind(&path).expect("bound");
        SockRef::from(&listener).listen(7).expect("listens");
        let seqpacket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
        seqpacket
            .bind(&SockAddr::unix(&seqpacket_path).expect("short"))
            .expect("bound");
        assert_eq!(
            depths.of(seqpacket.as_fd()).expect("told"),
            None,
            "it does not listen yet"
        );
        seqpacket.listen(2).expect("listens");

        let clients: Vec<_> = (0..4)
            .map(|_| UnixStream::connect(&path).expect("connected"))
            .collect();
        assert_eq!(
            depths.of(listener.as_fd()).expect("told"),
            Some(Depth {
                queued: 4,
                backlog: 7
            })
        );
        assert_eq!(
            depths.of(seqpacket.as_fd()).expect("told"),
            Some(Depth {
                queued: 0,
                backlog: 2
            })
        );
        let accepted = listener.accept().expect("accepted");
        assert_eq!(
            depths.of(listener.as_fd()).expect("told"),
            Some(Depth {
                queued: 3,
                backlog: 7
            })
        );
        drop((clients, accepted));
    }

    #[test]
    fn what_has_no_queue_tells_none() {
        let mut depths = Depths::new();
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
        assert_eq!(depths.of(udp.as_fd()).expect("told"), None);
        assert_eq!(
            depths
                .of(UnixDatagram::unbound().expect("a socket").as_fd())
                .expect("told"),
            None
        );
        let unconnected = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        assert_eq!(depths.of(unconnected.as_fd()).expect("told"), None);
        let null = std::fs::File::open("/dev/null").expect("opened");
        assert!(depths.of(null.as_fd()).is_err());
    }

    /// An answer as the kernel sends it: a listening stream socket with inode 99, a peer attribute, then the queue.
    fn answer() -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [52_u32, u32::from(BY_FAMILY), 7, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([1, 1, LISTEN, 0]);
        for word in [99_u32, 1, 2] {
            bytes.extend(word.to_ne_bytes());
        }
        for half in [5_u16, 6] {
            bytes.extend(half.to_ne_bytes());
        }
        bytes.extend([0; 4]);
        for half in [12_u16, QUEUE] {
            bytes.extend(half.to_ne_bytes());
        }
        for word in [3_u32, 128] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn answers_are_read_totally() {
        let whole = answer();
        assert_eq!(
            parse_answer(&whole, 99, 7),
            Answer::Depth(Some(Depth {
                queued: 3,
                backlog: 128
            }))
        );
        assert_eq!(parse_answer(&whole, 99, 8), Answer::Other);
        assert_eq!(parse_answer(&whole, 98, 7), Answer::Other);
        for end in 0..whole.len() {
            let cut = whole.get(..end).expect("shorter");
            assert_eq!(parse_answer(cut, 99, 7), Answer::Other, "cut at {end}");
            // The same with a length that agrees: attributes may be missing, nothing may be read beyond the end.
            let mut honest = cut.to_vec();
            if let Some(length) = honest.first_chunk_mut() {
                *length = u32::try_from(end).expect("small").to_ne_bytes();
            }
            assert!(
                matches!(
                    parse_answer(&honest, 99, 7),
                    Answer::Other | Answer::Depth(None)
                ),
                "cut at {end}"
            );
        }
        let zero_length = [0_u8; 64];
        assert_eq!(find_queue(&zero_length), None);
    }

    #[test]
    fn a_refusal_carries_its_errno() {
        let mut bytes = Vec::new();
        for word in [
            20_u32,
            u32::from(ERROR),
            7,
            0,
            (-libc::EPERM).cast_unsigned(),
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(parse_answer(&bytes, 99, 7), Answer::Failed(Errno::EPERM));
    }
}
