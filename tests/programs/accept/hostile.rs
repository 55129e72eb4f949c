//! Clients that do not behave: they cost what they take, and leave nothing behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::support::{Accept, ECHO};
use crate::common::service::{HANG, process};

#[test]
fn a_client_that_closes_half_way_gets_its_whole_answer() {
    let accept = Accept::start("", ECHO);
    for _ in 0..3 {
        let mut client = accept.dial();
        client.pid();
        client.say("the end of mine");
        client.stream().shutdown(Shutdown::Write).expect("open");
        assert_eq!(client.hear().as_deref(), Some("the end of mine"));
        assert_eq!(client.hear(), None);
    }
    accept.wait_for_sleep();
}

#[test]
fn slow_and_silent_clients_end_at_their_time_limit() {
    let accept = Accept::start("-c 2 --client-timeout 5s", ECHO);
    let (mut silent, mut dribbling) = (accept.dial(), accept.dial());
    silent.pid();
    dribbling.pid();
    let mut bytes = 0;
    // Each byte is waited for, so this is as slow as the handler; it ends when the handler does.
    let mut stream = dribbling.stream().try_clone().expect("a copy");
    while stream.write_all(b"x").is_ok() && stream.read(&mut [0]).is_ok_and(|count| count == 1) {
        bytes += 1;
        prefork::sys::machine::clock::pause(Duration::from_millis(10));
        assert!(bytes < 1000, "it goes on for ever");
    }
    assert!(bytes > 0);
    assert_eq!(silent.hear(), None);
    accept.wait_for_sleep();
    assert!(accept.dial().pid() > 0);
}

#[test]
fn a_reset_by_a_client_ends_only_its_handler() {
    let accept = Accept::start("-c 2", ECHO);
    let mut good = accept.dial();
    good.pid();
    for _ in 0..20 {
        let mut client = accept.dial();
        let pid = client.pid();
        SockRef::from(client.stream())
            .set_linger(Some(Duration::ZERO))
            .expect("set");
        drop(client);
        process::gone(pid);
    }
    good.say("unharmed");
    assert_eq!(good.hear().as_deref(), Some("unharmed"));
}

/// Connects and disconnects, in each of four ways.
fn hit_and_run(at: SocketAddr, times: usize) {
    for time in 0..times {
        let stream = TcpStream::connect_timeout(&at, HANG).expect("a connection");
        match time % 4 {
            0 => SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .expect("set"),
            1 => drop((&stream).write(b"half a li")),
            2 => drop(stream.shutdown(Shutdown::Both)),
            _ => drop((&stream).write(b"line\n")),
        }
    }
}

#[test]
fn ten_thousand_short_connections_leak_nothing() {
    let accept = Accept::start("-q -c 8", &["cat"]);
    // Once it has served a client, its start-up work is done.
    let mut first = accept.dial();
    first.say("hello");
    assert_eq!(first.hear().as_deref(), Some("hello"));
    drop(first);
    accept.wait_for_sleep();
    let before = crate::common::service::until("all of the first is closed", || {
        let open = process::descriptors(accept.pid());
        open.values()
            .all(|what| !what.contains("pidfd"))
            .then_some(open)
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| hit_and_run(accept.tcp(), 2500));
        }
    });
    accept.wait_for_sleep();
    // All of them have been taken: as many clients as there are tokens are served at once.
    let mut clients: Vec<_> = (0..8).map(|_| accept.dial()).collect();
    for client in &mut clients {
        client.say("hello");
    }
    for client in &mut clients {
        assert_eq!(client.hear().as_deref(), Some("hello"));
    }
    assert_eq!(accept.begun().len(), 8);
    drop(clients);
    accept.wait_for_sleep();
    crate::common::service::until("as many as before", || {
        (process::descriptors(accept.pid()) == before).then_some(())
    });
    // What cat says of clients that have reset is its own.
    assert!(!accept.log().contains("pf-accept"), "it has complained");
}
