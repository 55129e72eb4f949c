//! The workers of `examples/` under a real `pf-master`, with clients that keep their connections.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prefork::sys::notify::NotifySocket;

use super::http::{Client, under_load};
use crate::common::load::Target;
use crate::common::service::{end_of, until};
use crate::common::support::service::{Service, Worker};

/// Reloads under load, of each worker.
const TIMES: usize = 10;

/// A program of `examples/`, which `cargo test` builds along.
pub fn example(name: &str) -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_pf-master"));
    let path = bin.with_file_name("examples").join(name);
    assert!(
        path.exists(),
        "cargo build --examples makes {}",
        path.display()
    );
    path
}

fn start(name: &str, options: &[&str]) -> Service {
    let worker = Worker {
        command: vec![example(name).into()],
        environment: Vec::new(),
    };
    Service::start(options, &worker)
}

fn targets(service: &Service) -> [Target; 2] {
    [Target::Tcp(service.tcp()), Target::Unix(service.unix())]
}

/// No request is lost, kept connections learn that they end, and old workers end.
fn reloads_lose_nothing(name: &str) {
    let service = start(name, &["-n", "2", "--timeout", "8s"]);
    let account = under_load(&targets(&service), |load| {
        for _ in 0..TIMES {
            load.more(50);
            service.ctl(["reload"]);
        }
        load.more(50);
        service.wait_for(|status| status.retiring.is_empty());
    });
    assert!(account.lost.is_empty(), "{account:?}\n{}", service.log());
    assert!(account.last > 0, "{account:?}");
    // One worker alone may answer all of them.
    let counted = |status: &prefork::wire::status::Status| {
        status
            .slots
            .iter()
            .any(|slot| slot.requests.is_some_and(|requests| requests > 0))
    };
    service.wait_for(counted);
    service.stop();
}

#[test]
fn u13_reloads_of_a_worker_in_std_lose_nothing() {
    reloads_lose_nothing("worker-std");
}

#[test]
fn u13_reloads_of_a_worker_in_tokio_lose_nothing() {
    reloads_lose_nothing("worker-tokio");
}

#[test]
fn u13_reloads_of_a_worker_in_axum_lose_nothing() {
    reloads_lose_nothing("worker-axum");
}

/// A connection that is kept without a request is no reason to wait.
#[test]
fn w8_a_kept_connection_is_closed_at_its_pause() {
    for name in ["worker-std", "worker-tokio", "worker-axum"] {
        let service = start(name, &["-n", "1"]);
        let mut clients = targets(&service).map(|target| Client::of(&target));
        for client in &mut clients {
            let answer = client.get("first").expect("answered");
            assert!(!answer.is_last, "{name}: {answer:?}");
        }
        service.ctl(["reload"]);
        for client in &mut clients {
            let mut rest = Vec::new();
            let connection = client.connection().expect("kept");
            connection.read_to_end(&mut rest).expect("the end");
            assert!(rest.is_empty(), "{name}");
        }
        service.wait_for(|status| status.retiring.is_empty());
        service.stop();
    }
}

/// A worker that got the stop signal while a request was half read.
#[test]
fn u33_a_request_that_has_begun_is_answered_in_full() {
    for name in ["worker-std", "worker-tokio", "worker-axum"] {
        let service = start(name, &["-n", "1", "--timeout", "8s"]);
        let mut client = Client::of(&Target::Tcp(service.tcp()));
        client.get("first").expect("answered");
        let connection = client.connection().expect("kept").get_mut();
        connection
            .write_all(b"GET /second HTTP/1.1\r\n")
            .expect("sent");
        service.ctl(["reload"]);
        assert_eq!(
            service.status().retiring.len(),
            1,
            "{name}: it waits for the rest"
        );
        let connection = client.connection().expect("kept").get_mut();
        connection.write_all(b"Host: test\r\n\r\n").expect("sent");
        let answer = client.receive().expect("answered").expect("in full");
        assert!(
            answer.text.starts_with("hello second, ") && answer.is_last,
            "{name}: {answer:?}"
        );
        service.wait_for(|status| status.retiring.is_empty());
        service.stop();
    }
}

#[test]
fn u33_g5_a_second_stop_ends_the_worker_at_once() {
    for (first, second) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGQUIT, Signal::SIGINT),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sock");
        let mut child = Command::new(example("worker-std"))
            .arg(&path)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let mut client = Client::of(&Target::Unix(path));
        until("a listener", || client.connection().is_ok().then_some(()));
        client.get("first").expect("answered");
        let connection = client.connection().expect("kept").get_mut();
        connection
            .write_all(b"GET /second HTTP/1.1\r\n")
            .expect("sent");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, first).expect("sent");
        // It accepts no more: the first signal was handled.
        until("its end has begun", || {
            Client::of(&Target::Unix(dir.path().join("sock")))
                .connection()
                .is_err()
                .then_some(())
        });
        kill(pid, second).expect("sent");
        let status = end_of(&mut child, "the worker");
        let mut said = String::new();
        child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut said)
            .expect("text");
        assert_eq!(status.code(), Some(1), "{said}");
        // The last probe of the listener may have been accepted, and is closed as well.
        let told = ["1 client was", "2 clients were"]
            .map(|who| format!("worker-std: {who} broken off: an end at once was requested\n"));
        assert!(told.iter().any(|told| said.ends_with(told)), "{said}");
        assert!(client.receive().is_err() || client.receive().is_ok_and(|answer| answer.is_none()));
    }
}

/// No client connects, and yet they beat.
#[test]
fn u23_idle_workers_beat_within_the_timeout() {
    let workers = ["worker-std", "worker-tokio", "worker-axum"];
    let services = workers.map(|name| start(name, &["-n", "1", "--timeout", "6s"]));
    for service in services {
        let is_alive = |status: &prefork::wire::status::Status| {
            status
                .slots
                .iter()
                .all(|slot| slot.beats.is_some_and(|beats| beats > 2))
        };
        let status = service.wait_for(is_alive);
        let restarts: u64 = status.slots.iter().map(|slot| slot.restarts).sum();
        assert_eq!(restarts, 0, "{}", service.log());
        service.stop();
    }
}

/// A service manager without a heartbeat page gets messages.
#[test]
fn a_foreign_manager_receives_ready_watchdog_and_stopping() {
    let mut manager = NotifySocket::bind().expect("bound");
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(example("worker-std"))
        .arg(dir.path().join("sock"))
        .env("NOTIFY_SOCKET", manager.address())
        .env("WATCHDOG_USEC", "100000")
        .spawn()
        .expect("started");
    let mut hear = || until("a message", || manager.receive().expect("read")).text;
    assert_eq!(hear(), b"READY=1");
    for _ in 0..3 {
        assert_eq!(hear(), b"WATCHDOG=1");
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("sent");
    let last = until("the word that it stops", || {
        Some(hear()).filter(|text| text != b"WATCHDOG=1")
    });
    assert_eq!(last, b"STOPPING=1");
    assert_eq!(end_of(&mut child, "the worker").code(), Some(0));
}
