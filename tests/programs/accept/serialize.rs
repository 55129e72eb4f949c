//! `--serialize`: of all workers one at a time waits for a connection.

use std::fs;

use nix::sys::signal::Signal;

use super::support::Client;
use crate::common::service::master::address;
use crate::common::service::{Master, Scene, process, until};

fn launch<'a>(scene: &'a Scene, options: &'a [&'a str]) -> Master {
    let mut command = vec![env!("CARGO_BIN_EXE_pf-accept"), "-v"];
    command.extend(options);
    command.extend(["--", "sh", "-c", "echo $PPID; exec cat"]);
    scene
        .master("-n 3 -l 127.0.0.1:0 --ready notify")
        .command(command)
        .start()
}

/// Who holds a lock of fcntl's, of these processes; and who waits for one.
fn lockers(of: &[i32]) -> (Vec<i32>, Vec<i32>) {
    let text = fs::read_to_string("/proc/locks").expect("/proc");
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| line.contains("POSIX")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let waits = words.get(1) == Some(&"->");
        let pid = words.get(if waits { 5 } else { 4 });
        let pid = pid.and_then(|pid| pid.parse().ok()).unwrap_or(0);
        if of.contains(&pid) {
            let list = if waits { &mut waiting } else { &mut held };
            list.push(pid);
        }
    }
    (held, waiting)
}

/// Waits until one of the workers holds the lock and all others wait for it.
fn one_holds(master: &Master) -> (i32, Vec<i32>) {
    until("one holds the lock and two wait", || {
        let workers = master.workers();
        match lockers(&workers) {
            (held, waiting) if held.len() == 1 && waiting.len() == 2 => Some((held[0], waiting)),
            _ => None,
        }
    })
}

/// The worker that a new client gets, and the client.
fn served(master: &Master) -> (i32, Client) {
    let mut client = Client::over_tcp(address(&master.status(), 0));
    (client.pid(), client)
}

#[test]
fn s2_workers_hold_the_lock_in_turn() {
    let scene = Scene::new();
    let master = launch(&scene, &["--serialize"]);
    let mut clients = Vec::new();
    let mut seen = Vec::new();
    // With one token each, the three of them serve the first three clients.
    for left in (0..3).rev() {
        let (holder, _) = until("one holds the lock and the free ones wait", || {
            let workers = master.workers();
            let (held, waiting) = lockers(&workers);
            (held.len() == 1 && waiting.len() == left).then(|| (held[0], waiting))
        });
        let (worker, client) = served(&master);
        assert_eq!(worker, holder);
        assert!(!seen.contains(&worker));
        seen.push(worker);
        clients.push(client);
    }
    drop(clients);
    one_holds(&master);
    master.stop();
}

#[test]
fn s2_waiting_for_the_lock_handles_signals_and_reaps() {
    let scene = Scene::new();
    let master = launch(&scene, &["--serialize", "-c", "2"]);
    let (holder, waiting) = one_holds(&master);
    // It gets the stop signal while it waits.
    process::signal(waiting[0], Signal::SIGTERM);
    process::gone(waiting[0]);
    let (again, _) = one_holds(&master);
    assert_eq!(again, holder);
    // A handler ends whose worker waits for the lock, or holds it: it is reaped.
    let (worker, client) = served(&master);
    assert_eq!(worker, holder);
    let (next, _) = one_holds(&master);
    drop(client);
    until("its handler is reaped", || {
        process::descendants(holder).is_empty().then_some(())
    });
    // Killed while it holds the lock: that goes to another.
    process::signal(next, Signal::SIGKILL);
    process::gone(next);
    let (another, _) = one_holds(&master);
    assert_ne!(another, next);
    assert_eq!(served(&master).0, another);
    master.stop();
}
