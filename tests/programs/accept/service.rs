//! Under `pf-master`: readiness, heartbeats, counters, and rollouts that lose nothing.

use serde_json::Value;

use super::support::Client;
use crate::common::load::{Load, Target};
use crate::common::service::master::address;
use crate::common::service::{Master, Scene, process, until};
use crate::common::support::service::{Service, Worker};

/// Clients a listener.
const CLIENTS: usize = 3;
/// Requests that each listener answers between two rollouts.
const BETWEEN: u64 = 15;

fn worker(options: &[&str]) -> Worker {
    let answer = r#"read -r id; echo "hello $id, from $PPID""#;
    let mut words = vec![env!("CARGO_BIN_EXE_pf-accept")];
    words.extend(options);
    words.extend(["--", "sh", "-c", answer]);
    Worker {
        command: words.into_iter().map(Into::into).collect(),
        environment: Vec::new(),
    }
}

/// Rollouts of both kinds under load; nothing may be lost.
fn under_load(options: &[&str], reloads: usize, upgrades: usize) {
    // A worker that ends by itself right after it was ready is no failed start here, however fast
    // the load.
    let service = Service::start(&["-n", "2", "--start-failures", "1000"], &worker(options));
    let targets = [Target::Tcp(service.tcp()), Target::Unix(service.unix())];
    let load = Load::start(&targets, CLIENTS);
    for _ in 0..reloads {
        load.more(BETWEEN);
        service.ctl(["reload"]);
    }
    for time in 0..upgrades {
        load.more(BETWEEN);
        if time % 2 == 0 {
            service.ctl(["upgrade"]);
        } else {
            service.ctl(["upgrade", "--fork"]);
        }
    }
    load.more(BETWEEN);
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

#[test]
fn u13_reloads_and_upgrades_under_load_lose_nothing() {
    under_load(&["-c", "3"], 10, 5);
}

#[test]
fn u13_reloads_of_workers_that_serialize_lose_nothing() {
    under_load(&["--serialize", "-c", "2"], 6, 2);
}

#[test]
fn u13_workers_that_end_by_themselves_lose_nothing() {
    let service = Service::start(&["-n", "2"], &worker(&["--max-requests", "50"]));
    let targets = [Target::Tcp(service.tcp()), Target::Unix(service.unix())];
    let load = Load::start(&targets, CLIENTS);
    let first = service.ready();
    // So often that each has ended and was replaced, also between two rollouts.
    for _ in 0..3 {
        load.more(120);
        service.ctl(["reload"]);
    }
    load.more(120);
    load.stop().assert_none_lost(&service.log());
    let log = service.log();
    for slot in first {
        let ended = format!(
            "worker {} of generation 1 exited with code 0",
            slot.pid.expect("ready")
        );
        assert!(log.contains(&ended), "{log}");
    }
    service.stop();
}

fn start<'a>(scene: &'a Scene, options: &str, ours: &[&'a str]) -> Master {
    let mut command = vec![env!("CARGO_BIN_EXE_pf-accept")];
    command.extend(ours);
    command.extend(["--", "sh", "-c", "echo $$; exec cat"]);
    scene.master(options).command(command).start()
}

fn dial(master: &Master) -> Client {
    Client::over_tcp(address(&master.status(), 0))
}

fn slot(status: &Value) -> (u64, u64) {
    let slot = &status["slots"][0];
    let number = |name: &str| slot[name].as_u64().unwrap_or(u64::MAX);
    (number("requests"), number("connections"))
}

#[test]
fn u23_pf_accept_beats_counts_and_reports_status() {
    let scene = Scene::new();
    let options = "-n 1 -l 127.0.0.1:0 --ready notify --timeout 4s";
    let master = start(&scene, options, &["-c", "4"]);
    let worker = master.workers();
    let mut clients: Vec<_> = (0..3).map(|_| dial(&master)).collect();
    for client in &mut clients {
        client.pid();
    }
    master.until("three are open", |status| slot(status).1 == 3);
    let first = clients.pop().expect("three");
    assert_eq!(first.rest(), "");
    let status = master.until("one is finished", |status| slot(status) == (1, 2));
    assert_eq!(status["slots"][0]["status"], "accepting");
    // Longer than the timeout, with clients that keep it busy: it lives, and beats at half the
    // timeout.
    let beats = |status: &Value| status["slots"][0]["beats"].as_u64().expect("a number");
    let before = beats(&status);
    master.until("three beats", |status| beats(status) >= before + 3);
    assert_eq!(master.workers(), worker);
    drop(clients);
    master.until("no worker is left", |status| slot(status) == (3, 0));
    master.stop();
}

#[test]
fn u33_a_reload_finishes_running_connections() {
    let scene = Scene::new();
    let master = start(&scene, "-n 1 -l 127.0.0.1:0 --ready notify", &[]);
    let old = master.workers();
    let mut client = dial(&master);
    let handler = client.pid();
    master.ctl("reload").succeeded();
    // The old worker drains, and the new one has the next client.
    let retiring = &master.until("it drains", |status| {
        status["retiring"][0]["status"] == "finishing, 1 handler left"
    })["retiring"][0];
    assert_eq!(
        retiring["pid"].as_i64(),
        old.first().copied().map(i64::from)
    );
    let mut next = dial(&master);
    assert_ne!(next.pid(), handler);
    client.say("to the end");
    assert_eq!(client.hear().as_deref(), Some("to the end"));
    assert_eq!(client.rest(), "");
    process::gone(old[0]);
    drop(next);
    master.stop();
}

#[test]
fn u10_a_quick_stop_leaves_nothing_of_the_handlers() {
    let scene = Scene::new();
    let mut master = start(&scene, "-n 2 -l 127.0.0.1:0 --ready notify", &["-c", "2"]);
    let mut clients: Vec<_> = (0..4).map(|_| dial(&master)).collect();
    let handlers: Vec<i32> = clients.iter_mut().map(Client::pid).collect();
    master.ctl("stop --now").succeeded();
    assert_eq!(master.end(), Some(0), "{}", master.log());
    for pid in handlers {
        assert!(!process::alive(pid));
    }
}

#[test]
fn u6_a_killed_worker_leaves_no_handler() {
    let scene = Scene::new();
    let master = start(&scene, "-n 1 -l 127.0.0.1:0 --ready notify", &["-c", "2"]);
    let worker = master.workers()[0];
    let mut client = dial(&master);
    let handler = client.pid();
    process::signal(worker, nix::sys::signal::Signal::SIGKILL);
    process::gone(handler);
    assert_eq!(client.hear(), None);
    until("another worker", || {
        (master.workers() != [worker]).then_some(())
    });
    assert!(dial(&master).pid() > 0);
    master.stop();
}
