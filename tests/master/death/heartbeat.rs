//! Heartbeats: who is killed for silence, and who is not (U23, U24, R36 to R42).

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use serde_json::Value;

use super::support::{app, cause, restarts, slot};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene, process, until};
use crate::common::support::unavailable;

/// Slots 0 to 2 beat once, each in another way, then hang and ignore ABRT. Slot 3 does so from a
/// shell. Slot 4 never beats.
const STUCK: &str = r"case $PF_WORKER in
0) act 'deaf; beat counter; hang';;
1) act 'deaf; beat fchmod; hang';;
2) act 'deaf; beat watchdog; hang';;
3) trap '' ABRT; touch /dev/fd/$PF_HEARTBEAT_FD; rest;;
*) act 'hang';;
esac";

#[test]
fn u23_r42_only_a_worker_that_has_beaten_is_killed() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, STUCK);
    let master = scene
        .master("-n 5 --ready exec --timeout 1s --backoff 10ms..10ms")
        .start();
    let silent = master.workers()[4];
    let status = master.until("all that beat once are killed", |status| {
        (0..4).all(|number| cause(status, number).is_some())
    });
    for number in 0..4 {
        let exit = &slot(&status, number)["last_exit"];
        assert_eq!(
            (&exit["cause"], &exit["signal"]),
            (&"killed-heartbeat".into(), &"KILL".into()),
            "slot {number}: {exit}"
        );
    }
    // They were asked before, and had their time for an answer.
    let mut asked = BTreeSet::new();
    while !asked.is_superset(&BTreeSet::from([0, 1, 2])) {
        // Also more than once: those that were started again may be stuck by now, too.
        asked.insert(scene.report("got ABRT").slot);
    }
    let log = master.log();
    for number in 0..4 {
        let of = |line: &str, what: &str| {
            line.contains(&format!("slot {number}: ")) && line.contains(what)
        };
        let aborted = log.lines().position(|line| of(line, "no heartbeat for"));
        let killed = log
            .lines()
            .position(|line| of(line, "is not gone after ABRT: killed"));
        assert!(
            aborted.is_some() && aborted < killed,
            "slot {number}:\n{log}"
        );
    }
    // The worker that never beat lives, many timeouts later.
    let status = master.until("killed again", |status| restarts(status, 3) >= 2);
    let silent_slot = slot(&status, 4);
    assert_eq!(
        (&silent_slot["pid"], &silent_slot["heartbeat_age_s"]),
        (&silent.into(), &Value::Null)
    );
    drop(master);
    processes.gone();
}

/// Slots 0 to 3 beat all the time, each in another way; the last one beats once.
const BEATING: &str = r#"case $PF_WORKER in
0) act 'beating counter 20';;
1) act 'beating fchmod 20';;
2) act 'beating futimens 20';;
3) act 'beating watchdog 20';;
4) while touch "/dev/fd/$PF_HEARTBEAT_FD"; do sleep 0.02; done;;
*) act 'beat counter; hang';;
esac"#;

#[test]
fn u23_every_kind_of_beat_keeps_a_worker_alive() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, BEATING);
    let master = scene
        .master("-n 6 --ready exec --timeout 4s --backoff 10ms..10ms")
        .start();
    let workers = master.workers();
    let status = master.until("the one that hangs is killed twice", |status| {
        restarts(status, 5) == 2
    });
    for (number, worker) in workers.iter().enumerate().take(5) {
        let slot = slot(&status, number);
        assert_eq!(slot["pid"], *worker, "{slot}\n{}", master.log());
        assert!(
            slot["heartbeat_age_s"].is_number() && slot["beats"].is_number(),
            "{slot}"
        );
    }
    assert_eq!(cause(&status, 5).as_deref(), Some("killed-heartbeat"));
    assert_eq!(slot(&status, 5)["last_exit"]["signal"], "ABRT");
    assert!(slot(&status, 0)["beats"].as_u64() > Some(10));
    // What a worker needs for systemd's watchdog protocol.
    for worker in &workers[..5] {
        let environment = process::environment(*worker);
        assert_eq!(
            environment.get("WATCHDOG_USEC"),
            Some(&"4000000".to_owned())
        );
        assert_eq!(environment.get("WATCHDOG_PID"), Some(&worker.to_string()));
    }
    drop(master);
    processes.gone();
}

/// The timeout is an hour. Slot 0 asks to be aborted, slot 1 shortens its timeout, slot 2 shortens
/// it and then extends it.
const SPEAKING: &str = r"case $PF_WORKER in
0) act 'beat counter; notify WATCHDOG=trigger; hang';;
1) act 'notify WATCHDOG_USEC=200000; beat counter; hang';;
2) act 'notify WATCHDOG_USEC=200000; notify EXTEND_TIMEOUT_USEC=3600000000; beat counter; hang';;
esac";

#[test]
fn u23_a_worker_may_request_abort_timeout_and_extension() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, SPEAKING);
    // Slot 0 may ask for its end any number of times before the others have had their turn.
    let options = "-n 3 --ready exec --timeout 1h --backoff 10ms..10ms --start-failures 1000";
    let master = scene.master(options).start();
    let extended = master.workers()[2];
    let status = master.until("killed", |status| {
        restarts(status, 0) >= 1 && restarts(status, 1) >= 3
    });
    for number in 0..2 {
        assert_eq!(cause(&status, number).as_deref(), Some("killed-heartbeat"));
    }
    assert_eq!(slot(&status, 2)["pid"], extended, "{}", master.log());
    assert!(slot(&status, 2)["heartbeat_age_s"].is_number());
    master.wait_for_log("it asked for it");
    drop(master);
    processes.gone();
}

/// Waits until each of these has beaten since now.
fn fresh_beats(master: &Master, workers: &[i32]) {
    let before: Vec<u64> = beats(&master.status());
    master.until("everybody has beaten anew", |status| {
        beats(status)
            .iter()
            .zip(&before)
            .all(|(now, before)| now > before)
            && crate::common::service::master::pids(&status["slots"]) == workers
    });
}

fn beats(status: &Value) -> Vec<u64> {
    let slots = status["slots"].as_array().expect("slots");
    let beats = slots.iter().map(|slot| slot["beats"].as_u64().unwrap_or(0));
    beats.collect()
}

#[test]
fn u24_r37_a_stopped_tree_loses_no_worker() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, "act 'beating counter 10'");
    let master = scene.master("-n 3 --ready exec --timeout 2s").start();
    let workers = master.workers();
    fresh_beats(&master, &workers);
    for workers_first in [true, false] {
        let mut tree = processes.all();
        assert!(
            tree.contains(&master.pid()) && workers.iter().all(|pid| tree.contains(pid)),
            "{tree:?}"
        );
        for pid in &tree {
            process::signal(*pid, Signal::SIGSTOP);
        }
        // What is tried here is that time passes.
        clock::pause(TIMEOUT * 3 / 2);
        tree.sort_by_key(|pid| (*pid == master.pid()) == workers_first);
        for pid in &tree {
            process::signal(*pid, Signal::SIGCONT);
        }
        fresh_beats(&master, &workers);
        clock::pause(TIMEOUT * 3 / 2);
        fresh_beats(&master, &workers);
    }
    assert_eq!(master.status()["counters"]["died"], 0);
    assert!(!master.log().contains("no heartbeat"), "{}", master.log());
    drop(master);
    processes.gone();
}

/// Slot 0 beats once and is then left to the test; slot 1 shows that the time has passed.
const HELD: &str = r"case $PF_WORKER in
0) act 'beat counter; say beaten; hang';;
*) act 'beat counter; hang';;
esac";

/// Whether slot 0 is held although its timeout has passed twice for another.
fn held(master: &Master, worker: i32) {
    let before = restarts(&master.status(), 1);
    let status = master.until("its neighbour is killed twice", |status| {
        restarts(status, 1) >= before + 2
    });
    let slot = slot(&status, 0);
    assert_eq!(
        (&slot["pid"], &slot["state"]),
        (&worker.into(), &"held".into()),
        "{slot}\n{}",
        master.log()
    );
}

fn killed_when_it_goes_on(master: &Master, worker: i32) {
    process::gone(worker);
    let status = master.until("killed", |status| cause(status, 0).is_some());
    assert_eq!(cause(&status, 0).as_deref(), Some("killed-heartbeat"));
    assert_eq!(restarts(&status, 0), 1);
}

fn with_one_to_hold(scene: &Scene) -> (Master, i32) {
    app(scene, HELD);
    let master = scene
        .master("-n 2 --ready exec --timeout 3s --backoff 10ms..10ms")
        .spawn();
    let worker = scene.report("beaten").pid;
    (master, worker)
}

#[test]
fn r40_a_stopped_worker_is_held_and_not_killed() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let (master, worker) = with_one_to_hold(&scene);
    process::signal(worker, Signal::SIGSTOP);
    held(&master, worker);
    process::signal(worker, Signal::SIGCONT);
    killed_when_it_goes_on(&master, worker);
    drop(master);
    processes.gone();
}

#[test]
fn r40_a_traced_worker_is_held_and_not_killed() {
    use nix::sys::ptrace;
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let (master, worker) = with_one_to_hold(&scene);
    let pid = nix::unistd::Pid::from_raw(worker);
    // A tracer is a thread: when it ends, the worker goes on.
    let traced = std::thread::scope(|scope| {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let (tell, seized) = std::sync::mpsc::channel();
        scope.spawn(move || {
            let _ = tell.send(ptrace::seize(pid, ptrace::Options::empty()));
            let _ = wait.recv();
        });
        let seized = seized.recv().expect("told");
        if seized.is_ok() {
            held(&master, worker);
        }
        drop(done);
        seized
    });
    match traced {
        Ok(()) => killed_when_it_goes_on(&master, worker),
        Err(errno) => unavailable(&format!("this system lets no process trace: {errno}")),
    }
    drop(master);
    processes.gone();
}

#[test]
fn r41_a_core_dump_is_not_cut_short() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') || pattern.trim().is_empty() {
        return unavailable(&format!("cores go to '{}' here", pattern.trim()));
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // It takes the kernel seconds to walk through that much, and none of it to write.
    app(&scene, "act 'hoard 64; beat counter; hang'");
    let unlimited = ["sh", "-c", r#"ulimit -c unlimited; exec "$@""#, "sh"];
    let master = scene
        .master("-n 1 --ready exec --timeout 300ms --backoff 1h..1h")
        .wrapped_in(unlimited)
        .start();
    let worker = master.workers()[0];
    let told = until("it has what it wants, or does not get it", || {
        let heard = scene.unread_reports();
        heard.into_iter().next().map(|report| report.text)
    });
    if told != "rich" {
        return unavailable("this system gives no process that much address space");
    }
    let dumping =
        || process::exists(worker) && process::status(worker, "CoreDumping").starts_with('1');
    let dumped = until("it writes its core, or is gone", || {
        (dumping() || !process::alive(worker)).then(dumping)
    });
    let begun = clock::now();
    let status = master.until("gone", |status| cause(status, 0).is_some());
    if !dumped || clock::now().since(begun) < Duration::from_millis(1100) {
        return unavailable("this system is too fast, or writes no core");
    }
    let exit = &slot(&status, 0)["last_exit"];
    assert_eq!(
        (&exit["cause"], &exit["signal"], &exit["core"]),
        (&"killed-heartbeat".into(), &"ABRT".into(), &true.into()),
        "{exit}\n{}",
        master.log()
    );
    drop(master);
    processes.gone();
}

#[test]
fn r36_only_displayed_dates_use_the_wall_clock() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looking = Vec::new();
    let mut asking = Vec::new();
    let mut rooms = vec![root.clone()];
    while let Some(room) = rooms.pop() {
        for entry in std::fs::read_dir(&room).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                rooms.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let name = path.strip_prefix(&root).expect("within").to_owned();
            let name = name.to_string_lossy().into_owned();
            let clocks = [
                "SystemTime::now",
                "CLOCK_REALTIME",
                "gettimeofday",
                "libc::time(",
                "CLOCK_TAI",
                ".elapsed()",
            ];
            if clocks.iter().any(|clock| text.contains(clock)) {
                looking.push(name.clone());
            }
            if text.contains("wall()") {
                asking.push(name);
            }
        }
    }
    assert_eq!(looking, ["sys/machine/clock.rs"]);
    asking.sort_unstable();
    // Dates in the status document, in events, stories and the log; the clock itself.
    let display = [
        "driver/clients/follower.rs",
        "driver/events.rs",
        "driver/state/startup.rs",
        "driver/status.rs",
        "driver/stories.rs",
        "log/mod.rs",
        "sys/machine/clock.rs",
    ];
    let others: Vec<_> = asking
        .iter()
        .filter(|name| !display.contains(&name.as_str()))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
