//! Tests of the accept queue: real listeners, and replies as the kernel sends them.

use super::*;
use crate::sys::testing::unavailable;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use socket2::{SockAddr, Socket};

#[test]
fn the_queue_of_a_tcp_listener_is_read() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            unavailable(&format!("no {address} here"));
            continue;
        };
        SockRef::from(&listener).listen(5).expect("listens");
        let at = listener.local_addr().expect("an address");
        assert_eq!(
            depth(listener.as_fd()).expect("the depth"),
            Some(Depth {
                queued: 0,
                backlog: 5
            })
        );
        // Over loopback, the connection is in the queue when connect(2) returns.
        let clients: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(at).expect("connected"))
            .collect();
        assert_eq!(
            depth(listener.as_fd()).expect("the depth"),
            Some(Depth {
                queued: 3,
                backlog: 5
            })
        );
        let accepted = listener.accept().expect("accepted");
        assert_eq!(
            depth(listener.as_fd()).expect("the depth"),
            Some(Depth {
                queued: 2,
                backlog: 5
            })
        );
        drop((clients, accepted));
    }
}

/// Whether this kernel has diagnosis of Unix sockets: it is asked about a socket that exists.
fn unix_diag_is_there(queues: &mut QueueReader) -> bool {
    let socket = UnixDatagram::unbound().expect("a socket");
    let inode = inode(socket.as_fd()).expect("an inode");
    match queues.request_unix(u32::try_from(inode).expect("32 bits")) {
        Ok(DiagReply::Queue(None)) => true,
        reply => {
            unavailable(&format!("no diagnosis of Unix sockets: {reply:?}"));
            assert!(
                matches!(reply, Err(_) | Ok(DiagReply::Refused(_))),
                "{reply:?}"
            );
            false
        }
    }
}

#[test]
fn the_queues_of_unix_listeners_are_read_over_one_netlink_socket() {
    let mut queues = QueueReader::new();
    if !unix_diag_is_there(&mut queues) {
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
        queues.depth(seqpacket.as_fd()).expect("the depth"),
        None,
        "it does not listen yet"
    );
    seqpacket.listen(2).expect("listens");

    let clients: Vec<_> = (0..4)
        .map(|_| UnixStream::connect(&path).expect("connected"))
        .collect();
    assert_eq!(
        queues.depth(listener.as_fd()).expect("the depth"),
        Some(Depth {
            queued: 4,
            backlog: 7
        })
    );
    assert_eq!(
        queues.depth(seqpacket.as_fd()).expect("the depth"),
        Some(Depth {
            queued: 0,
            backlog: 2
        })
    );
    let accepted = listener.accept().expect("accepted");
    assert_eq!(
        queues.depth(listener.as_fd()).expect("the depth"),
        Some(Depth {
            queued: 3,
            backlog: 7
        })
    );
    drop((clients, accepted));
}

#[test]
fn what_a_full_queue_drops_is_counted_and_a_unix_listener_drops_nothing() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("bound");
    listener.listen(1).expect("listens");
    assert_eq!(drops(listener.as_fd()), Some(0));
    let address = listener.local_addr().expect("its address");
    let clients: Vec<Socket> = (0..8)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("set");
            let _ = client.connect(&address);
            client
        })
        .collect();
    assert!(drops(listener.as_fd()) > Some(0));
    drop(clients);
    let dir = tempfile::tempdir().expect("a directory");
    let unix = UnixListener::bind(dir.path().join("s")).expect("bound");
    assert_eq!(drops(unix.as_fd()), None);
}

#[test]
fn a_socket_that_does_not_listen_has_no_queue() {
    let mut queues = QueueReader::new();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    assert_eq!(queues.depth(udp.as_fd()).expect("the depth"), None);
    assert_eq!(
        queues
            .depth(UnixDatagram::unbound().expect("a socket").as_fd())
            .expect("the depth"),
        None
    );
    let unconnected = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    assert_eq!(queues.depth(unconnected.as_fd()).expect("the depth"), None);
    let null = std::fs::File::open("/dev/null").expect("opened");
    assert!(queues.depth(null.as_fd()).is_err());
}

/// A reply as the kernel sends it: a listening stream socket with inode 99, a peer attribute,
/// then the queue.
fn reply() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [52_u32, u32::from(SOCK_DIAG_BY_FAMILY), 7, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend([1, 1, TCP_LISTEN, 0]);
    for word in [99_u32, 1, 2] {
        bytes.extend(word.to_ne_bytes());
    }
    for half in [5_u16, 6] {
        bytes.extend(half.to_ne_bytes());
    }
    bytes.extend([0; 4]);
    for half in [12_u16, UNIX_DIAG_RQLEN] {
        bytes.extend(half.to_ne_bytes());
    }
    for word in [3_u32, 128] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

#[test]
fn any_bytes_are_parsed_without_a_panic() {
    let whole = reply();
    assert_eq!(
        parse_reply(&whole, 99, 7),
        DiagReply::Queue(Some(Depth {
            queued: 3,
            backlog: 128
        }))
    );
    assert_eq!(parse_reply(&whole, 99, 8), DiagReply::Unrelated);
    assert_eq!(parse_reply(&whole, 98, 7), DiagReply::Unrelated);
    for end in 0..whole.len() {
        let cut = whole.get(..end).expect("shorter");
        assert_eq!(
            parse_reply(cut, 99, 7),
            DiagReply::Unrelated,
            "cut at {end}"
        );
        // With a length field that agrees, attributes may be missing; the parser must not read
        // beyond the end.
        let mut consistent = cut.to_vec();
        if let Some(length) = consistent.first_chunk_mut() {
            *length = u32::try_from(end).expect("small").to_ne_bytes();
        }
        assert!(
            matches!(
                parse_reply(&consistent, 99, 7),
                DiagReply::Unrelated | DiagReply::Queue(None)
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
        u32::from(NLMSG_ERROR),
        7,
        0,
        (-libc::EPERM).cast_unsigned(),
    ] {
        bytes.extend(word.to_ne_bytes());
    }
    assert_eq!(parse_reply(&bytes, 99, 7), DiagReply::Refused(Errno::EPERM));
}
