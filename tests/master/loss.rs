//! No connection is lost by a rollout, a change of size, a worker that is asked to end, or a pause.
//! Clients open new connections the whole time, on TCP and on a Unix socket, and account for each.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::common::load::{Kind, Load, Target, connect, receive};
use crate::common::support::service::{Service, Worker, hello};
use crate::plain_worker::{Collector, HELD, plain};

/// How often each thing is done under load.
const TIMES: usize = 20;
/// Clients a listener.
const CLIENTS: usize = 2;
/// Requests that each listener answers between two of them, so that they happen under load.
const BETWEEN: u64 = 25;

fn targets(service: &Service) -> [Target; 2] {
    [Target::Tcp(service.tcp()), Target::Unix(service.unix())]
}

/// Does something [`TIMES`] times to a service under load; no request may be lost.
fn under_load(options: &[&str], worker: &Worker, mut act: impl FnMut(&Service, usize)) {
    let service = Service::start(options, worker);
    let load = Load::start(&targets(&service), CLIENTS);
    for time in 0..TIMES {
        load.more(BETWEEN);
        act(&service, time);
    }
    load.more(BETWEEN);
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

fn reload(service: &Service, time: usize) {
    service.ctl(["reload"]);
    assert_eq!(
        service.status().generation,
        time as u64 + 2,
        "{}",
        service.log()
    );
}

#[test]
fn u13_twenty_reloads_lose_nothing() {
    under_load(&["-n", "4"], &Worker::hello(), reload);
}

/// Acts this many times, and samples the status meanwhile, at least once each time: never fewer
/// ready workers than promised, and always the same master.
fn sampled(service: &Service, wanted: usize, times: usize, act: impl Fn()) {
    let pid = service.status().pid;
    let (over, samples) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let status = service.status();
                assert!(status.workers.ready >= wanted, "{}", service.log());
                assert_eq!(status.pid, pid, "{}", service.log());
                samples.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..times {
            let before = samples.load(Ordering::SeqCst);
            act();
            while samples.load(Ordering::SeqCst) == before && !sampler.is_finished() {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
        sampler.join().expect("no sample was wrong");
    });
}

#[test]
fn r1_a_hundred_upgrades_lose_nothing_and_keep_enough_workers() {
    let service = Service::start(&["-n", "4"], &Worker::hello());
    let load = Load::start(&targets(&service), CLIENTS);
    sampled(&service, 4, 100, || {
        load.more(5);
        service.ctl(["upgrade"]);
    });
    load.more(BETWEEN);
    assert_eq!(service.status().generation, 101, "{}", service.log());
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

#[test]
fn u16_twenty_upgrades_by_fork_lose_nothing() {
    under_load(&["-n", "4"], &Worker::hello(), |service, time| {
        let before = service.status().pid;
        service.ctl(["upgrade", "--fork"]);
        let status = service.wait_for(|status| status.pid != before && status.role == "master");
        assert_eq!(status.generation, time as u64 + 2, "{}", service.log());
        assert_eq!(status.workers.ready, 4, "{}", service.log());
    });
}

#[test]
fn u13_twenty_reloads_of_all_at_once_lose_nothing() {
    under_load(&["-n", "4", "--surge", "100%"], &Worker::hello(), reload);
}

#[test]
fn u13_twenty_reloads_of_one_worker_with_surge_0_lose_nothing() {
    // No worker accepts between pause and resume: the clients wait in the queue.
    under_load(&["-n", "1", "--surge", "0"], &Worker::hello(), reload);
}

#[test]
fn u13_twenty_reloads_of_blocking_workers_lose_nothing() {
    // Ready before they have even looked at their listeners: the kernel's queue makes up for it.
    under_load(&["-n", "4", "--ready", "exec"], &plain(), reload);
}

#[test]
fn u11_twenty_changes_of_size_lose_nothing() {
    for (options, worker) in [
        (&["-n", "1"][..], Worker::hello()),
        (&["-n", "1", "--ready", "exec"], plain()),
    ] {
        under_load(options, &worker, |service, time| {
            let wanted = if time % 2 == 0 { "6" } else { "1" };
            service.ctl(["scale", wanted]);
            assert_eq!(
                service.ready().len().to_string(),
                wanted,
                "{}",
                service.log()
            );
        });
    }
}

#[test]
fn s1_twenty_workers_stopped_by_signal_lose_nothing() {
    for (options, worker) in [
        (&["-n", "4"][..], Worker::hello()),
        (&["-n", "4", "--ready", "exec"], plain()),
    ] {
        let mut dice: u64 = 7;
        under_load(options, &worker, |service, _| {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let ready = service.ready();
            let slot = &ready[(dice >> 33) as usize % ready.len()];
            let pid = slot.pid.expect("who is ready lives");
            service.signal(pid, Signal::SIGTERM);
            // It has ended, and another worker holds its slot. A worker that ends with code 0 has
            // finished, which is no restart.
            let replaced = |other: &prefork::wire::status::Slot| {
                other.slot == slot.slot && other.pid.is_some_and(|pid| Some(pid) != slot.pid)
            };
            service.wait_for(|status| status.slots.iter().any(replaced));
        });
    }
}

#[test]
fn u12_clients_of_a_paused_service_queue_and_are_served() {
    let service = Service::start(&["-n", "3"], &Worker::hello());
    let load = Load::start(&targets(&service), CLIENTS);
    for _ in 0..5 {
        load.more(BETWEEN);
        service.ctl(["pause"]);
        // Every client waits in the queue: connected, and not refused.
        let queued = |status: &prefork::wire::status::Status| {
            status
                .listeners
                .iter()
                .all(|listener| listener.queued == u32::try_from(CLIENTS).ok())
        };
        let status = service.wait_for(queued);
        assert_eq!(
            (status.state.as_str(), status.workers.ready),
            ("paused", 0),
            "{}",
            service.log()
        );
        let before = load.answered();
        service.ctl(["resume"]);
        load.more(BETWEEN);
        assert!(
            load.answered()
                .iter()
                .zip(before)
                .all(|(after, before)| *after > before)
        );
    }
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

#[test]
fn u19_a_reload_that_fails_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let app = dir.path().join("app");
    symlink(hello(), &app).expect("a link");
    let worker = Worker {
        command: vec![app.clone().into()],
        environment: Vec::new(),
    };
    let service = Service::start_in(dir, &["-n", "3", "--backoff", "1ms..1ms"], &worker);
    let load = Load::start(&targets(&service), CLIENTS);
    fs::remove_file(&app).expect("our own link");
    symlink("/bin/false", &app).expect("a link");
    for _ in 0..5 {
        load.more(BETWEEN);
        let (code, text) = service.try_ctl(["reload"]);
        assert_eq!(code, Some(1), "{text}\n{}", service.log());
    }
    load.more(BETWEEN);
    assert_eq!(
        (service.status().generation, service.ready().len()),
        (1, 3),
        "{}",
        service.log()
    );
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

#[test]
fn a_killed_worker_loses_only_its_accepted_requests() {
    let collector = Collector::start();
    let service = Service::start(&["-n", "1", "--ready", "exec"], &collector.worker());
    let victim = service.ready()[0].pid.expect("a worker");
    collector.hold(true);
    // More clients than it accepts: the others are in the queue when it dies.
    let mut clients = Vec::new();
    for (index, target) in targets(&service).iter().enumerate() {
        for number in 0..HELD + 3 {
            let id = format!("{index}-{number}");
            let mut socket = connect(target).expect("connected");
            socket
                .write_all(format!("{id}\n").as_bytes())
                .expect("sent");
            clients.push((id, socket));
        }
    }
    let taken = collector.wait_for(2 * HELD);
    assert!(
        taken.iter().all(|taken| taken.pid == victim),
        "{taken:?} by {victim}"
    );
    collector.hold(false);
    service.signal(victim, Signal::SIGKILL);
    let taken: HashSet<&str> = taken.iter().map(|taken| taken.id.as_str()).collect();
    for (id, mut socket) in clients {
        match receive(&mut socket, &id) {
            Ok(()) => assert!(!taken.contains(id.as_str()), "{id}"),
            Err((kind, _)) => assert!(
                kind == Kind::Empty && taken.contains(id.as_str()),
                "{id}: {kind:?}\n{}",
                service.log()
            ),
        }
    }
    service.stop();
}

#[test]
fn twenty_killed_workers_lose_only_their_accepted_requests() {
    let collector = Collector::start();
    let service = Service::start(
        &["-n", "3", "--ready", "exec", "--backoff", "1ms..1ms"],
        &collector.worker(),
    );
    let load = Load::start(&targets(&service), CLIENTS);
    let mut killed = HashSet::new();
    for time in 0..TIMES {
        load.more(BETWEEN);
        let ready = service.ready();
        let slot = &ready[time % ready.len()];
        let pid = slot.pid.expect("who is ready lives");
        service.signal(pid, Signal::SIGKILL);
        killed.insert(pid);
        service.wait_for(|status| {
            status
                .slots
                .iter()
                .any(|other| other.slot == slot.slot && other.restarts > slot.restarts)
        });
    }
    load.more(BETWEEN);
    let counts = load.stop();
    service.ctl(["stop"]);
    let taken = collector.taken();
    let mut untold = 0;
    for lost in &counts.lost {
        assert!(
            matches!(lost.kind, Kind::Empty | Kind::Reset),
            "{lost}\n{}",
            service.log()
        );
        match taken.iter().find(|taken| taken.id == lost.id) {
            Some(taken) => assert!(
                killed.contains(&taken.pid),
                "{lost}: {taken:?} was not killed\n{}",
                service.log()
            ),
            // Killed between its accept and its word of it.
            None => untold += 1,
        }
    }
    // A worker has one client of a listener in its hands at a time.
    assert!(
        counts.lost.len() <= 2 * killed.len(),
        "{:?} by {} workers",
        counts.kinds(),
        killed.len()
    );
    assert!(untold <= 2 * killed.len());
    // Another process may have the pid by now.
    let ours = format!("PF_MASTER_PID={}\0", service.started());
    let is_ours = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&ours)
    };
    assert!(!killed.iter().any(is_ours), "they are gone");
}
