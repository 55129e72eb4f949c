//! The small server: tokens, callbacks, errors, and clients that mean no good.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown as Direction, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prefork::{Connection, Listeners, Server, Shutdown};
use socket2::{SockRef, Socket};

use crate::common::service::{end_of, until};
use crate::common::support::PATIENCE;

/// Says `in`, reads a line, and answers with it; some lines mean something else.
fn serve(mut client: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    client.write_all(b"in\n")?;
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line)?;
    match line.trim_end() {
        "panic" => panic!("as asked"),
        "error" => Err("as asked".into()),
        line => Ok(writeln!(client, "hello {line}")?),
    }
}

fn connect(at: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    BufReader::new(stream)
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("a line");
    line
}

/// A server in this process, which the test can ask to finish.
struct Running {
    at: SocketAddr,
    shutdown: Shutdown,
}

/// Runs the server while `act` is the client; what `serve` has returned.
fn with(server: Server, act: impl FnOnce(&Running)) -> prefork::error::Result<()> {
    let listeners = Listeners::bind(["tcp:127.0.0.1:0"]).expect("bound");
    let port = listeners.get(0).and_then(|one| one.address.port());
    let running = Running {
        at: SocketAddr::from(([127, 0, 0, 1], port.expect("a port"))),
        shutdown: Shutdown::new().expect("made"),
    };
    let server = server.shutdown(running.shutdown.clone());
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            server.serve(listeners, |client: &Connection| {
                serve(client).map_err(|why| why.to_string())
            })
        });
        /// Also where the client has failed.
        struct End(Shutdown);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.request();
            }
        }
        let end = End(running.shutdown.clone());
        act(&running);
        drop(end);
        served.join().expect("no panic")
    })
}

#[test]
fn w2_without_a_token_no_client_is_accepted() {
    let (serving, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&most);
    let server = Server::new()
        .max_clients(4)
        .on_error(|_| {})
        .on_accept(move |_| {
            counted.fetch_add(1, SeqCst);
        });
    with(server, |running| {
        let mut held: Vec<_> = (0..4).map(|_| connect(running.at)).collect();
        for client in &mut held {
            assert_eq!(line(client), "in\n");
        }
        // A hundred more wait in the queue.
        let mut waiting: Vec<_> = (0..100).map(|_| connect(running.at)).collect();
        let fd = Socket::from(waiting[0].get_ref().try_clone().expect("copied"));
        fd.set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a limit");
        assert!(
            (&fd).read(&mut [0]).is_err(),
            "no client has said anything to it"
        );
        assert_eq!(most.load(SeqCst), 4);
        fd.set_read_timeout(Some(PATIENCE)).expect("a limit");
        drop(held);
        std::thread::scope(|scope| {
            for client in &mut waiting {
                let (serving, most) = (&serving, &most);
                scope.spawn(move || {
                    assert_eq!(line(client), "in\n");
                    let now = serving.fetch_add(1, SeqCst) + 1;
                    assert!(now <= 4, "{now} at once, of {} accepted", most.load(SeqCst));
                    serving.fetch_sub(1, SeqCst);
                    client.get_mut().write_all(b"x\n").expect("sent");
                    assert_eq!(line(client), "hello x\n");
                });
            }
        });
    })
    .expect("all were served");
    assert_eq!(most.load(SeqCst), 104);
}

#[test]
fn w6_an_error_or_panic_ends_one_connection() {
    let told = Arc::new(Mutex::new(Vec::<String>::new()));
    let lines = Arc::clone(&told);
    let server = Server::new()
        .max_clients(1)
        .on_error(move |line| lines.lock().expect("whole").push(line.to_owned()));
    with(server, |running| {
        for word in ["panic", "error", "x"] {
            let mut client = connect(running.at);
            assert_eq!(line(&mut client), "in\n");
            writeln!(client.get_mut(), "{word}").expect("sent");
            let expected = if word == "x" { "hello x\n" } else { "" };
            assert_eq!(line(&mut client), expected);
        }
    })
    .expect("all were served");
    let told = told.lock().expect("whole");
    let ends: Vec<&str> = told
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(_, why)| why)
        .collect();
    assert_eq!(ends, ["panic: as asked", "as asked"]);
}

#[test]
fn w5_callbacks_come_in_their_order() {
    let told = Arc::new(Mutex::new(Vec::<&str>::new()));
    let tell = |word: &'static str| {
        let told = Arc::clone(&told);
        move || told.lock().expect("whole").push(word)
    };
    let accepted = tell("accept");
    let server = Server::new()
        .on_start(tell("start"))
        .on_accept(move |_| accepted())
        .on_stop(tell("stop"));
    with(server, |running| {
        let mut client = connect(running.at);
        assert_eq!(line(&mut client), "in\n");
        client.get_mut().write_all(b"x\n").expect("sent");
        assert_eq!(line(&mut client), "hello x\n");
    })
    .expect("served");
    assert_eq!(*told.lock().expect("whole"), ["start", "accept", "stop"]);
}

#[test]
fn w4_g5_a_stop_serves_accepted_clients_within_its_limit() {
    let server = || {
        Server::new()
            .drain_timeout(Duration::from_millis(100))
            .on_error(|_| {})
    };
    let mut client = None;
    let stopped = |running: &Running, client: &mut Option<BufReader<TcpStream>>| {
        let mut one = connect(running.at);
        assert_eq!(line(&mut one), "in\n");
        running.shutdown.request();
        until("the listener is closed", || {
            TcpStream::connect(running.at).err()
        });
        *client = Some(one);
    };
    with(server().drain_timeout(PATIENCE), |running| {
        stopped(running, &mut client);
        let mut one = client.take().expect("connected");
        one.get_mut().write_all(b"x\n").expect("sent");
        assert_eq!(line(&mut one), "hello x\n");
    })
    .expect("it was served");
    let error = with(server(), |running| stopped(running, &mut client)).expect_err("it never was");
    assert_eq!(
        error.to_string(),
        "1 client was broken off: not finished after 100ms"
    );
}

#[test]
fn w8_a_client_that_takes_too_long_is_ended() {
    let server = Server::new()
        .max_clients(1)
        .client_timeout(Duration::from_secs(2))
        .on_error(|_| {});
    with(server, |running| {
        let mut silent = connect(running.at);
        assert_eq!(line(&mut silent), "in\n");
        let mut slow = connect(running.at);
        assert_eq!(line(&mut silent), "", "its time is up");
        assert_eq!(line(&mut slow), "in\n");
        // A byte at a time is no way to keep a token either.
        slow.get_ref().set_nonblocking(true).expect("set");
        until("an end", || {
            let _ = slow.get_mut().write(b"x");
            match slow.get_ref().peek(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                ended => Some(ended.is_ok()),
            }
        });
        drop(slow);
        let mut next = connect(running.at);
        assert_eq!(line(&mut next), "in\n");
        next.get_mut().write_all(b"x\n").expect("sent");
        assert_eq!(line(&mut next), "hello x\n");
    })
    .expect("all were served");
}

const ROLE: &str = "worker::server::play";

/// The server as a process, so that its descriptors and threads can be counted.
#[test]
fn play() {
    if !std::env::args().any(|arg| arg == ROLE) {
        return;
    }
    let listeners = Listeners::inherit().expect("listeners").expect("some");
    let served = Server::new()
        .max_clients(4)
        .client_timeout(Duration::from_secs(4))
        .on_error(|_| {})
        .serve(listeners, |client: &Connection| {
            serve(client).map_err(|why| why.to_string())
        });
    served.expect("all were served");
}

/// Dropping it kills the process.
struct Process(Child);

impl Process {
    fn start(ports: &std::path::Path) -> (Process, SocketAddr) {
        let program = std::env::current_exe().expect("the test program's path");
        let child = Command::new(env!("CARGO_BIN_EXE_pf-listen"))
            .arg("--port-file")
            .arg(ports)
            .args(["tcp:127.0.0.1:0", "--"])
            .arg(program)
            .args(["--exact", ROLE, "--nocapture", "--test-threads=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let at = until("a port", || {
            let text = fs::read_to_string(ports).ok()?;
            text.trim_end().strip_prefix("- tcp:")?.parse().ok()
        });
        (Process(child), at)
    }

    fn open(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.0.id()));
        open.expect("it runs").count()
    }

    fn threads(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0.id()));
        threads.expect("it runs").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All four tokens at the same time.
fn all_tokens_are_there(at: SocketAddr) {
    let mut clients: Vec<_> = (0..4).map(|_| connect(at)).collect();
    for client in &mut clients {
        assert_eq!(line(client), "in\n");
    }
    for client in &mut clients {
        client.get_mut().write_all(b"x\n").expect("sent");
        assert_eq!(line(client), "hello x\n");
    }
}

#[test]
fn w6_hostile_clients_leak_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut process, at) = Process::start(&dir.path().join("ports"));
    all_tokens_are_there(at);
    let (open, threads) = (process.open(), process.threads());
    // Says nothing; half of them go away without a word as well.
    let silent: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(at).expect("connected"))
        .collect();
    // Closes half way, in either direction.
    for direction in [Direction::Write, Direction::Read] {
        let mut half = connect(at);
        half.get_ref().shutdown(direction).expect("shut");
        let _ = half.get_mut().write_all(b"x\n");
        let _ = half.read_to_end(&mut Vec::new());
    }
    // Resets.
    for _ in 0..50 {
        let client = connect(at);
        let socket = SockRef::from(client.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("set");
    }
    // Comes and goes.
    for _ in 0..10_000 {
        drop(TcpStream::connect(at).expect("connected"));
    }
    drop(silent);
    all_tokens_are_there(at);
    // Then, the first clients' connections may not have been closed yet.
    until("no more descriptors than before", || {
        (process.open() <= open).then_some(())
    });
    assert_eq!(process.threads(), threads, "one a token");
    let pid = Pid::from_raw(i32::try_from(process.0.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("sent");
    assert_eq!(end_of(&mut process.0, "the server").code(), Some(0));
}
