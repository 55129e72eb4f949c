//! The graceful listener on real sockets, with many threads and random timing. `orders` runs its
//! core in every order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use prefork::{Accepted, GracefulListener, Listeners, Shutdown};

use crate::common::support::PATIENCE;

/// How often accept and close race.
const ROUNDS: u64 = 200;
const CLIENTS: usize = 8;

/// Numbers that come again with their seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Lets others go first, or not.
    fn dawdle(&mut self, limit: u64) {
        for _ in 0..self.below(limit) {
            std::thread::yield_now();
        }
    }
}

fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = listener.local_addr().expect("an address");
    (listener, at)
}

fn serve(mut connection: Accepted) {
    let mut name = [0];
    connection.read_exact(&mut name).expect("a name");
    connection.write_all(&name).expect("answered");
}

/// Connects, asks, and reads the answer.
fn ask(at: SocketAddr, name: u8) {
    let mut stream = TcpStream::connect(at).expect("never refused");
    let patience = Some(PATIENCE);
    stream.set_read_timeout(patience).expect("a limit");
    stream.write_all(&[name]).expect("sent");
    let mut answer = [0];
    stream
        .read_exact(&mut answer)
        .expect("an answer, and no reset");
    assert_eq!(answer, [name]);
}

fn race(seed: u64) {
    let (listener, at) = bound();
    // Another process that shares the socket, and has what is left in the queue.
    let sibling = GracefulListener::new([listener.try_clone().expect("copied")]).expect("listens");
    let listener = GracefulListener::new([listener]).expect("listens");
    let (accepted, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let mut random = Random(seed * 31 + number as u64 + 1);
                    random.dawdle(60);
                    ask(at, number as u8);
                })
            })
            .collect();
        for number in 0..2 {
            let (listener, accepted, finished) = (&listener, &accepted, &finished);
            scope.spawn(move || {
                let mut random = Random(seed * 17 + number + 1);
                while let Some(connection) = listener.accept().expect("accepted") {
                    accepted.fetch_add(1, SeqCst);
                    let mut random = Random(seed + random.below(1000) + 1);
                    scope.spawn(move || {
                        random.dawdle(40);
                        let copy = connection.try_clone().expect("copied");
                        serve(connection);
                        random.dawdle(10);
                        finished.fetch_add(1, SeqCst);
                        drop(copy);
                    });
                }
            });
        }
        let mut random = Random(seed + 1);
        random.dawdle(120);
        listener.close();
        assert_eq!(listener.open(), 0, "seed {seed}");
        let (accepted, finished) = (accepted.load(SeqCst), finished.load(SeqCst));
        assert_eq!(accepted, finished, "seed {seed}");
        assert!(listener.accept().expect("no error").is_none());
        let rest = scope.spawn(|| {
            let mut rest = 0;
            while let Some(connection) = sibling.accept().expect("accepted") {
                serve(connection);
                rest += 1;
            }
            rest
        });
        for client in clients {
            client.join().expect("answered");
        }
        sibling.stop();
        let rest: usize = rest.join().expect("no panic");
        assert_eq!(accepted + rest, CLIENTS, "seed {seed}");
    });
}

#[test]
fn g2_g4_racing_accept_and_close_loses_no_client() {
    for seed in 1..=ROUNDS {
        race(seed);
    }
}

#[test]
fn g3_a_connection_counts_once_however_many_hold_it() {
    let (listener, at) = bound();
    let listener = GracefulListener::new([listener]).expect("listens");
    let _clients = [TcpStream::connect(at), TcpStream::connect(at)];
    let one = listener.accept().expect("accepted").expect("a client");
    let two = listener.accept().expect("accepted").expect("a client");
    let copy = one.try_clone().expect("copied");
    assert_eq!(listener.open(), 2);
    drop(one);
    assert_eq!(listener.open(), 2);
    let (socket, ticket) = copy.into_parts();
    drop(socket);
    assert_eq!(listener.open(), 2);
    drop(ticket);
    assert_eq!(listener.open(), 1);
    drop(two);
    listener.close();
}

#[test]
fn g5_all_listeners_close_within_one_time_limit() {
    let ((one, at_one), (two, at_two)) = (bound(), bound());
    let listener = GracefulListener::new([one, two]).expect("they listen");
    let _clients = [at_one, at_two].map(|at| TcpStream::connect(at).expect("connected"));
    let open = [listener.accept(), listener.accept()].map(|one| one.expect("accepted"));
    let error = listener
        .close_within(Duration::from_millis(5))
        .expect_err("both are open");
    assert_eq!(
        error.to_string(),
        "not every connection was finished: 2 open after 5ms"
    );
    for at in [at_one, at_two] {
        assert!(TcpStream::connect(at).is_err(), "closed before the wait");
    }
    drop(open);
    listener.close_within(PATIENCE).expect("all are closed");
}

#[test]
fn g5_a_second_stop_ends_the_wait() {
    let (listener, at) = bound();
    let listener = GracefulListener::new([listener]).expect("listens");
    let shutdown = Shutdown::new().expect("made");
    let _client = TcpStream::connect(at).expect("connected");
    let open = listener.accept().expect("accepted");
    std::thread::scope(|scope| {
        let end = scope.spawn(|| listener.close_on(&shutdown, None));
        shutdown.request();
        assert!(listener.accept().expect("no error").is_none());
        shutdown.request_at_once();
        let error = end.join().expect("no panic").expect_err("one is open");
        assert_eq!(
            error.to_string(),
            "not every connection was finished: 1 open when an end at once was requested"
        );
    });
    drop(open);
    listener.close_on(&shutdown, None).expect("all are closed");
}

#[test]
fn w1_listeners_are_served_in_turn() {
    let ((one, at_one), (two, at_two)) = (bound(), bound());
    let listener = GracefulListener::new([one, two]).expect("they listen");
    let connect = |at| (0..10).map(move |_| TcpStream::connect(at).expect("connected"));
    let _clients: Vec<TcpStream> = connect(at_one).chain(connect(at_two)).collect();
    let mut turns = Vec::new();
    for _ in 0..10 {
        let accepted = listener.accept().expect("accepted").expect("a client");
        let at = accepted.socket().local_addr().expect("an address");
        turns.push(at.as_socket() == Some(at_one));
    }
    assert_eq!(turns.iter().filter(|first| **first).count(), 5, "{turns:?}");
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    let listeners = Listeners::bind(["udp:127.0.0.1:0"]).expect("bound");
    let error = GracefulListener::new(listeners)
        .expect_err("datagrams")
        .to_string();
    assert!(
        error.starts_with("cannot accept on listener 127.0.0.1:"),
        "{error}"
    );
    assert!(
        error.ends_with(": it does not listen for connections"),
        "{error}"
    );
}
