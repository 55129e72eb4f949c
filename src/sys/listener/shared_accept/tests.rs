//! The tests of this room.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::*;
use crate::sys::signal::Signals;
use crate::sys::testing::{Peer, Talk};

fn listener(socket: impl Into<OwnedFd>) -> Listener {
    Listener::inspect(socket.into(), None, None, "a socket").expect("a socket")
}

#[test]
fn what_has_no_connections_is_told_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let datagram = UnixDatagram::bind(dir.path().join("d")).expect("bound");
    for socket in [OwnedFd::from(udp), OwnedFd::from(datagram)] {
        assert!(
            check(&listener(socket))
                .expect_err("none")
                .contains("datagram")
        );
    }
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let stream = TcpStream::connect(tcp.local_addr().expect("bound")).expect("connected");
    assert!(
        check(&listener(stream))
            .expect_err("one")
            .contains("connection")
    );
    assert_eq!(check(&listener(tcp)), Ok(()));
    let unix = UnixListener::bind(dir.path().join("s")).expect("bound");
    assert_eq!(check(&listener(unix)), Ok(()));
    let silent =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let nowhere = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    silent.bind(&nowhere.into()).expect("bound");
    assert_eq!(check(&listener(silent)), Err("it does not listen"));
}

#[test]
fn only_what_says_something_of_us_is_a_failure_of_accept() {
    let is = |errno| is_the_clients(&io::Error::from_raw_os_error(errno));
    for errno in [libc::EAGAIN, libc::EINTR, libc::ECONNABORTED, libc::EPERM] {
        assert!(is(errno));
    }
    for errno in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINVAL] {
        assert!(!is(errno));
    }
}

/// A process of its own: it has one thread, which the alarm is for.
pub fn play(talk: &mut Talk) {
    let signals = Signals::install().expect("handlers");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let at = tcp.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let unix = UnixListener::bind(&path).expect("bound");
    let listeners = vec![listener(tcp), listener(unix)];
    let mut door = Door::new(listeners, signals.fd(), true).expect("a door");
    let soon = || Some(now() + Duration::from_millis(20));
    assert!(
        door.wait(true, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    assert!(door.take(0).expect("nobody was there").is_none());

    let mut tcp_client = TcpStream::connect(at).expect("connected");
    let unix_client = UnixStream::connect(&path).expect("connected");
    assert!(
        door.wait(false, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    let mut come = door.wait(true, None).expect("waited").listeners;
    come.sort_unstable();
    assert_eq!(come, [0, 1]);
    let taken = door.take(0).expect("taken").expect("a connection");
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

    let taken = door.take(1).expect("taken").expect("a connection");
    let Ends::Unix { local, client, .. } = taken.ends else {
        panic!("{:?}", taken.ends);
    };
    assert_eq!(local, path.as_os_str().as_encoded_bytes());
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_eq!(client.expect("told").pid, own);
    drop(unix_client);
    door.close();
    assert!(
        door.wait(true, soon())
            .expect("waited")
            .listeners
            .is_empty()
    );
    assert!(TcpStream::connect(at).is_err(), "nobody else has it");
    talk.say("done");
}

#[test]
fn connections_are_taken_with_their_ends_and_nobody_waits_for_one_that_is_gone() {
    let mut peer = Peer::start("door", &[]);
    assert_eq!(peer.talk.hear().as_deref(), Some("done"));
}
