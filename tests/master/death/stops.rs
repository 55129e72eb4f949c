//! Delayed stops, queues that are drained first, drains that are ended, and wrapper shells (R47 to
//! R50, R53, U10).

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::common::service::master::{address, pids, refused};
use crate::common::service::process;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{HANG, Scene, until};

#[test]
fn a_stop_delay_serves_clients_and_shows_stopping() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("play serve");
    let mut master = scene
        .master("-n 2 --ready notify --stop-delay 1h --listen 127.0.0.1:0")
        .start();
    let workers = master.workers();
    master.signal(Signal::SIGTERM);
    let status = master.until("announced", |status| status["state"] == "stopping");
    assert_eq!(pids(&status["slots"]), workers);
    for _ in 0..50 {
        assert!(workers.contains(&master.dial().ask().2));
    }
    // A worker that crashes meanwhile is replaced, because clients still come.
    process::signal(workers[0], Signal::SIGKILL);
    master.until("replaced", |status| {
        status["workers"]["ready"] == 2 && pids(&status["slots"])[0] != workers[0]
    });
    assert_eq!(scene.unread_reports(), [], "no worker was told");
    // A harder word cuts it short.
    let address = address(&master.status(), 0);
    master.signal(Signal::SIGINT);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    refused(address);
    processes.gone();
}

#[test]
fn a_stop_delay_ends_by_itself() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("play serve");
    let mut master = scene
        .master("-n 2 --ready notify --stop-delay 400ms --listen 127.0.0.1:0")
        .start();
    let mut client = master.dial();
    client.ask();
    let begun = prefork::sys::machine::clock::now();
    master.signal(Signal::SIGTERM);
    scene.reports("draining", 2);
    let lingered = prefork::sys::machine::clock::now().since(begun);
    assert!(lingered.as_millis() >= 400, "{lingered:?}");
    drop(client);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    processes.gone();
}

/// Clients that have connected and asked, and wait for a worker to take them.
fn queue(address: std::net::SocketAddr, count: usize) -> Vec<BufReader<TcpStream>> {
    let ask = |_| {
        let mut stream = TcpStream::connect_timeout(&address, HANG).expect("queued");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        stream.write_all(b"who\n").expect("sent");
        BufReader::new(stream)
    };
    (0..count).map(ask).collect()
}

fn stopped(pid: i32) {
    process::signal(pid, Signal::SIGSTOP);
    until("it is stopped", || {
        process::status(pid, "State").starts_with('T').then_some(())
    });
}

#[test]
fn u10_drain_queue_serves_queued_clients_before_the_stop() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("play serve");
    let mut master = scene
        .master("-n 1 --ready notify --drain-queue --listen 127.0.0.1:0")
        .start();
    let worker = master.workers()[0];
    stopped(worker);
    let clients = queue(address(&master.status(), 0), 30);
    master.until("all are queued", |status| {
        status["listeners"][0]["queued"] == 30
    });
    master.signal(Signal::SIGTERM);
    master.wait_for_log("waiting for the accept queues to be empty");
    let status = master.status();
    assert_eq!(
        (&status["state"], &status["listeners"][0]["queued"]),
        (&"stopping".into(), &30.into())
    );
    // A stop signal is followed by CONT; this worker got neither, so it is still stopped.
    assert!(process::status(worker, "State").starts_with('T'));
    assert_eq!(scene.unread_reports(), []);
    process::signal(worker, Signal::SIGCONT);
    for mut client in clients {
        let mut line = String::new();
        client.read_line(&mut line).expect("an answer");
        assert_eq!(line.trim_end(), format!("0 1 {worker}"));
    }
    scene.report("draining");
    assert_eq!(master.end(), Some(0), "{}", master.log());
    processes.gone();
}

#[test]
fn u10_a_full_queue_delays_a_stop_until_the_timeout() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("play serve");
    let mut master = scene
        .master("-n 1 --ready notify --drain-queue --graceful-timeout 4s --listen 127.0.0.1:0")
        .start();
    stopped(master.workers()[0]);
    let clients = queue(address(&master.status(), 0), 3);
    master.until("all are queued", |status| {
        status["listeners"][0]["queued"] == 3
    });
    master.signal(Signal::SIGTERM);
    // The stop signal is followed by CONT.
    scene.report("draining");
    drop(clients);
    assert_eq!(master.end(), Some(0));
    master.wait_for_log("the accept queues are not empty");
    processes.gone();
}

/// Workers that never finish their drain, and report each signal.
const PATIENT: &str = "play 'catch stubborn ready'";

#[test]
fn r47_r48_max_draining_kills_the_oldest_worker() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app(PATIENT);
    let mut master = scene
        .master("-n 1 --ready notify --graceful-timeout 1h --max-draining 2 --quick-timeout 200ms")
        .start();
    let mut generations = vec![master.workers()[0]];
    for _ in 0..3 {
        master.ctl("reload --timeout 60s").succeeded();
        generations.push(master.workers()[0]);
    }
    // Three are draining, one more than allowed.
    process::gone(generations[0]);
    let status = master.until("two drain", |status| status["workers"]["retiring"] == 2);
    assert_eq!(pids(&status["retiring"]), generations[1..3]);
    master.wait_for_log("is the oldest of too many that drain");

    master.ctl("retire 2 --timeout 60s").succeeded();
    assert!(!process::alive(generations[1]));
    assert!(process::alive(generations[2]));
    let status = master.status();
    assert_eq!(pids(&status["retiring"]), [generations[2]]);
    assert_eq!(status["retiring"][0]["generation"], 3);
    // No worker of that generation drains; the serving generation cannot be retired.
    for none in ["retire 2", "retire 4"] {
        let ended = master.ctl(none);
        assert!(matches!(ended.code, Some(0 | 6)), "{none}: {ended:?}");
    }
    assert_eq!(master.workers(), [generations[3]]);
    assert!(process::alive(generations[3]));

    master.ctl("stop --now").succeeded();
    assert_eq!(master.end(), Some(0));
    processes.gone();
}

#[test]
fn r53_a_stop_reaches_the_program_of_a_wrapper_shell() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // The shell dies of TERM; what it has started gets the same after it, and may finish.
    scene.app("helper 'catch ready'; exit 3");
    let mut master = scene.master("-n 1 --ready notify").start();
    let shell = master.workers()[0];
    master.signal(Signal::SIGTERM);
    let told = scene.report("got TERM");
    assert_ne!(told.pid, shell);
    assert_eq!(master.end(), Some(0));
    let line = master.wait_for_log("a wrapper shell that did not exec");
    assert!(line.contains(&format!("worker {shell}")), "{line}");
    let more = scene.unread_reports();
    assert!(
        !more.iter().any(|report| report.text.starts_with("got")),
        "{more:?}"
    );
    processes.gone();
}

#[test]
fn r54_a_crash_leaves_no_process_of_its_group() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("trap '' TERM\nsh -c 'sh -c \"sleep 1000\" & sleep 1000' & say up; up; rest");
    let master = scene
        .master("-n 1 --ready fd=9 --backoff 10ms..10ms")
        .start();
    // A worker is ready before its children have children.
    let below = |worker: i32| {
        until("the whole family is there", || {
            let below = process::descendants(worker);
            let group: Vec<i32> = below.into_iter().map(|(pid, _)| pid).collect();
            (group.len() == 4).then_some(group)
        })
    };
    // Master, guard, worker, and the four below it.
    let all_are_there = || {
        until("as many as there should be", || {
            (processes.all().len() == 7).then_some(())
        });
    };
    below(master.workers()[0]);
    all_are_there();
    for _ in 0..3 {
        let worker = master.workers()[0];
        let group = below(worker);
        process::signal(worker, Signal::SIGKILL);
        master.until("replaced", |status| {
            status["workers"]["ready"] == 1 && pids(&status["slots"])[0] != worker
        });
        for pid in group {
            process::gone(pid);
        }
    }
    all_are_there();
    master.ctl("stop --now").succeeded();
    drop(master);
    processes.gone();
}
