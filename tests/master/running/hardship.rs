//! What the system, the workers and bad luck do to a master: it goes on, or ends in order.

use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use procfs::process::Process;
use serde_json::json;

use crate::common::service::process::{alive, gone, signal};
use crate::common::service::scene::{GATED, RESTING};
use crate::common::service::{Control, Scene};
use crate::common::support::{skip, unavailable};

/// Ticks of processor time, user and system.
fn cpu(pid: i32) -> u64 {
    let stat = Process::new(pid)
        .and_then(|process| process.stat())
        .expect("it lives");
    stat.utime + stat.stime
}

#[test]
fn u34_without_free_descriptors_it_does_not_spin() {
    let scene = Scene::new();
    let wrapper = ["sh", "-c", r#"ulimit -n 40; exec "$@""#, "sh"];
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    let clients: Vec<Control> = (0..60).map(|_| master.control()).collect();
    master.wait_for_log("control clients are turned away");
    let (before, begun) = (cpu(master.pid()), clock::now());
    clock::pause(Duration::from_millis(700));
    let (used, took) = (cpu(master.pid()) - before, clock::now().since(begun));
    let lines = master
        .log()
        .matches("control clients are turned away")
        .count();
    assert!(lines <= 5, "{lines} lines");
    assert!(used <= 20, "{used} ticks in {took:?}");
    drop(clients);
    master.ctl("reload --timeout 60s").succeeded();
    master.stop();
}

#[test]
fn u34_spawns_without_descriptors_are_failed_starts() {
    let scene = Scene::new();
    let wrapper = ["sh", "-c", r#"ulimit -n 24; exec "$@""#, "sh"];
    let launch = scene
        .master("-n 20 --ready fd=9 --backoff 1ms..1ms")
        .wrapped_in(wrapper);
    launch.run().failed(
        1,
        &[
            "the first rollout failed",
            "could not be started",
            "Too many open files",
        ],
    );
    for report in scene.unread_reports() {
        gone(report.pid);
    }
}

#[test]
fn u34_a_log_that_cannot_be_written_is_counted() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9 --log /dev/full").start();
    master.ctl("reload").succeeded();
    let lost = master.status()["counters"]["log_lines_lost"].as_u64();
    assert!(lost >= Some(3), "{lost:?}");
    master.stop();
}

#[test]
fn u34_a_flooded_notify_socket_delays_no_other() {
    let scene = Scene::new();
    let flood = "import os, socket\n\
                 s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                 s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:])\n\
                 while True: s.send(b'READY=1\\nSTATUS=flood\\n')";
    let master = scene
        .master("-n 1 --ready notify")
        .command(["python3", "-c", flood])
        .start();
    // A master that never finished reading its signals would not answer at all.
    for _ in 0..5 {
        assert_eq!(master.status()["slots"][0]["state"], "ready");
    }
    master.stop();
}

#[test]
fn p8_a_killed_master_fails_waiting_clients_and_ends_workers() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9").start();
    let old = master.workers();
    scene.reports("up", 2);
    scene.app(GATED);
    let reload = master.start_ctl("reload");
    let newcomer = scene.report("up").pid;
    let mut waiting = master.control();
    waiting.request(&json!({"cmd": "wait", "ready": true}));
    // Requests are taken in order: the master knows of that one by now.
    assert_eq!(waiting.status()["rollout"]["result"], "running");
    master.signal(Signal::SIGKILL);
    reload.end().failed(3, &["died"]);
    assert_eq!(waiting.line(), None);
    for pid in old.into_iter().chain([newcomer]) {
        gone(pid);
    }
}

#[test]
fn u10_a_stop_during_the_start_is_an_asked_for_end() {
    for sent in [Signal::SIGTERM, Signal::SIGINT] {
        let scene = Scene::new();
        scene.app(GATED);
        let mut master = scene.master("-n 3 --ready fd=9").spawn();
        let workers = scene.reports("up", 3);
        master.signal(sent);
        assert_eq!(master.end(), Some(0));
        assert!(workers.iter().all(|report| !alive(report.pid)));
        assert!(!scene.path("app.pid").exists());
    }
}

#[test]
fn u13_a_directory_that_has_gone_fails_the_reload_alone() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("cwd")).expect("a directory");
    let master = scene
        .master("-n 1 --ready fd=9")
        .cwd(&scene.path("cwd"))
        .start();
    let worker = scene.report("up").pid;
    std::fs::remove_dir(scene.path("cwd")).expect("removed");
    master
        .ctl("reload")
        .failed(1, &["working directory", "cwd", "No such file"]);
    master.signal(Signal::SIGHUP);
    master.wait_for_log("reload refused, nothing has changed: working directory");
    assert_eq!(master.workers(), [worker]);
    std::fs::create_dir(scene.path("cwd")).expect("a directory");
    master.ctl("reload").succeeded();
    master.stop();
}

#[test]
fn u7_it_works_as_pid_1() {
    if !nix::unistd::Uid::effective().is_root() {
        return skip("only root can make a pid namespace");
    }
    let tried = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "true"])
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        return unavailable("no namespace may be made");
    }
    let scene = Scene::new();
    // A stranger for every worker: its own session, orphaned at once.
    scene.app("(setsid sleep 0.01 &); say up; up; rest");
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut master = scene
        .master("-n 2 --ready fd=9 --backoff 1ms..1ms")
        .wrapped_in(wrapper)
        .spawn();
    let first = scene.reports("up", 2);
    let status = master.until("ready", |status| status["workers"]["ready"] == 2);
    assert_eq!(
        (&status["pid"], &status["slots"][0]["pid"]),
        (&json!(1), &json!(first[0].pid))
    );
    scene.app(RESTING);
    master.ctl("reload").succeeded();
    let status = master.until("old ones are gone", |status| {
        status["workers"]["retiring"] == 0
    });
    assert_eq!(status["generation"], 2);
    // Seen from outside: no zombie is left, whichever process was its parent.
    let zombies = || {
        crate::common::service::process::descendants(master.pid())
            .into_iter()
            .filter(|(_, state)| *state == 'Z')
            .count()
    };
    crate::common::service::until("no zombie", || (zombies() == 0).then_some(()));
    master.ctl("stop --timeout 60s").succeeded();
    assert_eq!(master.end(), Some(0));
}

#[test]
fn u34_a_worker_killing_its_group_harms_no_other() {
    let scene = Scene::new();
    scene.app("say up; up; trap : USR1; [ $PF_WORKER = 0 ] && kill -KILL 0; rest");
    let master = scene
        .master("-n 2 --ready fd=9 --backoff 1h..1h --start-failures 9")
        .spawn();
    let reports = scene.reports("up", 2);
    gone(reports[0].pid);
    let status = master.until("one is left", |status| {
        status["slots"][0]["state"] == "backoff" && status["workers"]["ready"] == 1
    });
    assert_eq!(status["slots"][1]["pid"], reports[1].pid);
    signal(reports[1].pid, Signal::SIGTERM);
}
