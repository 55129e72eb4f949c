//! Tests of the shared listeners.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::*;
use crate::sys::signal::Signals;
use crate::sys::testing::{Peer, Talk};

fn listener(socket: impl Into<OwnedFd>) -> Listener {
    Listener::inspect(socket.into(), None, None, "a socket").expect("a socket")
}

#[test]
fn a_socket_without_connections_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let datagram = UnixDatagram::bind(dir.path().join("d")).expect("bound");
    for socket in [OwnedFd::from(udp), OwnedFd::from(datagram)] {
        assert!(
            check_has_connections(&listener(socket))
                .expect_err("none")
                .contains("datagram")
        );
    }
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let stream = TcpStream::connect(tcp.local_addr().expect("bound")).expect("connected");
    assert!(
        check_has_connections(&listener(stream))
            .expect_err("one")
            .contains("connection")
    );
    assert_eq!(check_has_connections(&listener(tcp)), Ok(()));
    let unix = UnixListener::bind(dir.path().join("s")).expect("bound");
    assert_eq!(check_has_connections(&listener(unix)), Ok(()));
    let not_listening =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let nowhere = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    not_listening.bind(&nowhere.into()).expect("bound");
    assert_eq!(
        check_has_connections(&listener(not_listening)),
        Err("it does not listen")
    );
}

#[test]
fn peer_errors_from_accept_are_not_failures() {
    let is = |errno| is_peer_error(&io::Error::from_raw_os_error(errno));
    for errno in [libc::EAGAIN, libc::EINTR, libc::ECONNABORTED, libc::EPERM] {
        assert!(is(errno));
    }
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINVAL] {
        assert!(!is(errno));
    }
}

/// Runs in a process with one thread: the timer signal that interrupts accept(2) is for that
/// thread.
pub fn play(talk: &mut Talk) {
    let signals = Signals::install().expect("handlers");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let at = tcp.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).expect("bound");
    let listeners = vec![listener(tcp), listener(unix)];
    let mut shared = SharedListeners::new(listeners, signals.fd(), true).expect("listeners");
    let soon = || Some(now() + Duration::from_millis(20));
    assert!(
        shared
            .wait(true, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    assert!(shared.accept(0).expect("no client").is_none());

    let mut tcp_client = TcpStream::connect(at).expect("connected");
    let unix_client = UnixStream::connect(&path).expect("connected");
    assert!(
        shared
            .wait(false, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    let mut arrived = shared.wait(true, None).expect("waited").listeners;
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 1]);
    let taken = shared.accept(0).expect("taken").expect("a connection");
    let remote = tcp_client.local_addr().expect("connected");
    let interface = None;
    let local = at;
    let ends = Ends::Tcp {
        local,
        remote,
        interface,
    };
    assert_eq!(taken.ends, ends);
    let mut taken = TcpStream::from(taken.socket);
    io::Write::write_all(&mut taken, b"x").expect("written");
    io::Read::read_exact(&mut tcp_client, &mut [0]).expect("read");

    let taken = shared.accept(1).expect("taken").expect("a connection");
    let Ends::Unix { local, client, .. } = taken.ends else {
        panic!("{:?}", taken.ends);
    };
    assert_eq!(local, path.as_os_str().as_encoded_bytes());
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(client.expect("the process of the client").pid, own);
    drop(unix_client);
    shared.close();
    assert!(
        shared
            .wait(true, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    assert!(
        TcpStream::connect(at).is_err(),
        "no other process has the listener"
    );
    talk.say("done");
}

#[test]
fn connections_are_accepted_with_the_addresses_of_both_ends() {
    let mut peer = Peer::start("shared-accept", &[]);
    assert_eq!(peer.talk.hear().as_deref(), Some("done"));
}
