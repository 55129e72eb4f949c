//! Workers that end without being asked to, and what becomes of what they leave behind.

use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use serde_json::{Value, json};

use crate::common::service::process::{alive, gone, name, signal};
use crate::common::service::scene::RESTING;
use crate::common::service::{Master, Scene};

fn slot_state(status: &Value, slot: usize) -> &Value {
    &status["slots"][slot]["state"]
}

fn last_exit(master: &Master, what: &str) -> Value {
    let status = master.until(what, |status| {
        status["slots"][0]["last_exit"] != json!(null) && status["workers"]["ready"] == 1
    });
    status["slots"][0]["last_exit"].clone()
}

/// How long slot 0 was empty before the process `pid`, by the master's own clock, because a busy
/// machine delays every other observer.
fn rested(master: &Master, pid: i32) -> Duration {
    let status = master.until("the next one", |status| status["slots"][0]["pid"] == pid);
    let slot = &status["slots"][0];
    let time = |date: &Value| {
        humantime::parse_rfc3339(date.as_str().expect("a date")).expect("as RFC 3339 has it")
    };
    let ended = time(&slot["last_exit"]["at"]);
    time(&slot["started_at"])
        .duration_since(ended)
        .expect("started after the end of the one before")
}

/// Reports the pid of a child as `child`, and that of the worker as `up`; then ready.
fn with_child(child: &str, leader: &str) -> String {
    format!(
        r#"{child} & echo "child $PF_WORKER $PF_GENERATION $!" >"$PF_TEST_SAY"
        say up; up; {leader}"#
    )
}

#[test]
fn a_worker_that_dies_early_waits_for_its_next_start() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9 --backoff 1h..2h").start();
    let workers = master.workers();
    scene.reports("up", 2);
    signal(workers[1], Signal::SIGKILL);
    let status = master.until("it waits", |status| slot_state(status, 1) == "backoff");
    assert_eq!(
        (
            &status["workers"]["backoff"],
            &status["workers"]["ready"],
            &status["state"]
        ),
        (&json!(1), &json!(1), &json!("running"))
    );
    assert_eq!(
        (&status["slots"][1]["pid"], &status["slots"][1]["restarts"]),
        (&json!(null), &json!(1))
    );
    assert_eq!(status["slots"][1]["last_exit"]["signal"], "KILL");
    // The command starts it at once.
    master.ctl("restart-worker 1").succeeded();
    assert_eq!(scene.report("up").slot, 1);
    // And a new release has a new start, with or without a canary in just that slot.
    signal(master.workers()[0], Signal::SIGKILL);
    master.until("it waits", |status| slot_state(status, 0) == "backoff");
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["workers"]["ready"], 2);
    master.stop();
}

#[test]
fn u6_a_worker_ready_longer_than_its_wait_is_replaced_at_once() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9 --backoff 5s..1h").start();
    let worker = scene.report("up").pid;
    master.until("it has been ready for longer than that", |status| {
        let slot = &status["slots"][0];
        let ready_for = slot["uptime_s"].as_f64().unwrap_or(0.0)
            - slot["ready_after_s"].as_f64().unwrap_or(f64::MAX);
        ready_for > 5.05
    });
    signal(worker, Signal::SIGKILL);
    let next = scene.report("up").pid;
    let rested = rested(&master, next);
    assert!(rested < Duration::from_secs(4), "{rested:?}");
    // This one was not.
    signal(next, Signal::SIGKILL);
    let last = scene.report("up").pid;
    let rested = self::rested(&master, last);
    assert!(rested >= Duration::from_secs(5), "{rested:?}");
    master.stop();
}

#[test]
fn it_gives_up_when_no_worker_can_start() {
    let scene = Scene::new();
    let master =
        scene.master("-n 1 --ready fd=9 --give-up 4 --backoff 1ms..1ms --start-failures 100");
    scene.app("say up; exit 5");
    let ended = master.run().failed(
        1,
        &[
            "pf-master: gave up after 4 failed starts in a row with no worker ready",
            "exited with code 5",
        ],
    );
    assert_eq!(scene.unread_reports().len(), 4, "{ended:?}");
    assert!(!scene.path("app.pid").exists() && !scene.path("app.ctl").exists());

    // Also after it was ready once; an exit without a request counts by its exit code.
    scene.app(RESTING);
    let mut master = scene
        .master("-n 1 --ready fd=9 --give-up 3 --backoff 1ms..1ms")
        .start();
    scene.app("exit 5");
    signal(scene.report("up").pid, Signal::SIGKILL);
    assert_eq!(master.end(), Some(1));
    master.wait_for_log("pf-master: gave up after 3 failed starts");
}

#[test]
fn give_up_needs_consecutive_failures_and_no_ready_worker() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready fd=9 --give-up 3 --backoff 1ms..1ms")
        .start();
    scene.reports("up", 2);
    scene.app("say bad; exit 5");
    signal(master.workers()[1], Signal::SIGKILL);
    scene.reports("bad", 10);
    assert_eq!(master.status()["state"], "running");
    drop(master);

    // Two failures, a success, two failures, a success: never three in a row.
    scene.app(
        r#"n=$(cat "$PF_TEST_SAY.count")
        echo $((n+1)) >"$PF_TEST_SAY.count"
        case $n in 1|2|4|5) exit 1;; esac
        say up; up; rest"#,
    );
    std::fs::write(scene.path("say.count"), "0\n").expect("written");
    let mut master = scene
        .master("-n 1 --ready fd=9 --give-up 3 --backoff 1ms..1ms")
        .start();
    for _ in 0..2 {
        let worker = scene.report("up").pid;
        let settled = |status: &Value| {
            status["slots"][0]["uptime_s"].as_f64() > Some(0.05) && status["workers"]["ready"] == 1
        };
        master.until("it was ready for long enough", settled);
        signal(worker, Signal::SIGKILL);
    }
    scene.report("up");
    master.ctl("stop").succeeded();
    assert_eq!(master.end(), Some(0), "{}", master.log());
}

#[test]
fn a_fatal_exit_fails_the_rollout_or_empties_the_slot() {
    let scene = Scene::new();
    scene.app("say up; exit 78");
    let ended = scene.master("-n 1 --ready fd=9 --fatal-exit 77,78").run();
    ended.failed(1, &["exited with code 78", "that exit code is fatal"]);
    assert_eq!(scene.unread_reports().len(), 1, "once");

    scene.app(RESTING);
    let master = scene
        .master("-n 2 --ready fd=9 --fatal-exit 77,78 --backoff 1ms..1ms")
        .start();
    scene.reports("up", 2);
    let old = master.workers();
    scene.app("say up; exit 77");
    master
        .ctl("reload")
        .failed(1, &["exited with code 77", "that exit code is fatal"]);
    assert_eq!((master.workers(), scene.unread_reports().len()), (old, 1));

    // After it was ready.
    scene.app(r#"say up; up; read x <"$PF_TEST_DOOR$PF_WORKER"; exit 77"#);
    master.ctl("reload").succeeded();
    scene.open_door(1);
    let status = master.until("down", |status| slot_state(status, 1) == "down");
    assert_eq!(
        (
            &status["slots"][1]["pid"],
            &status["slots"][1]["last_exit"]["code"]
        ),
        (&json!(null), &json!(77))
    );
    assert_eq!(status["workers"]["ready"], 1);
    master.wait_for_log("slot 1: that exit code is fatal");
    let degraded = std::process::Command::new(env!("CARGO_BIN_EXE_pf-status"))
        .arg(scene.path("app.pid"))
        .arg("-q")
        .status();
    assert_eq!(degraded.expect("pf-status").code(), Some(1));
    scene.app(RESTING);
    master.ctl("restart-worker 1").succeeded();
    assert_eq!(master.status()["workers"]["ready"], 2);
    master.stop();
}

#[test]
fn r99_children_of_a_crashed_worker_are_killed() {
    let scene = Scene::new();
    scene.app(&with_child("(trap '' TERM; exec sleep 1000)", "rest"));
    let master = scene
        .master("-n 1 --ready fd=9 --backoff 1ms..1ms --graceful-timeout 1h")
        .start();
    let (worker, child) = (scene.report("up").pid, scene.report("child").pid);
    signal(worker, Signal::SIGSEGV);
    gone(child);
    let next = scene.report("up").pid;
    master.until("replaced", |status| status["workers"]["ready"] == 1);
    assert!(alive(next) && alive(scene.report("child").pid));
    // The rest of this one's group goes at KILL only.
    process_of(&master, next);
}

/// Ends a master whose workers would take an hour.
fn process_of(master: &Master, worker: i32) {
    assert_eq!(master.workers(), [worker]);
    master.ctl("stop --now --no-wait").succeeded();
}

#[test]
fn a_wrapper_shell_is_named_and_its_program_signalled() {
    let scene = Scene::new();
    scene.app(&with_child("play 'catch'", "wait; :"));
    let master = scene.master("-n 1 --ready fd=9").start();
    let (shell, program) = (scene.report("up").pid, scene.report("child").pid);
    assert_eq!(name(shell), "sh");
    scene.report("catching");
    let old = master.ctl("restart-worker 0").succeeded();
    assert_eq!(scene.report("got TERM").pid, program, "{old:?}");
    gone(program);
    let line = master.wait_for_log("a wrapper shell that did not exec?");
    assert!(
        line.contains(&shell.to_string()) && line.contains("TERM"),
        "{line}"
    );
    assert!(!master.log().contains("KILL"));
}

#[test]
fn u10_a_worker_ignoring_the_stop_is_killed_with_its_group() {
    let scene = Scene::new();
    // Before it says anything.
    let family = with_child("sleep 1000", "rest");
    scene.app(&format!("trap '' TERM; {family}"));
    let master = scene
        .master("-n 1 --ready fd=9 --graceful-timeout 300ms")
        .start();
    let (worker, child) = (scene.report("up").pid, scene.report("child").pid);
    let begun = clock::now();
    master.ctl("restart-worker 0").succeeded();
    gone(worker);
    gone(child);
    let took = clock::now().since(begun);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    let exit = last_exit(&master, "one that was killed");
    assert_eq!(
        (&exit["cause"], &exit["signal"], &exit["code"]),
        (
            &json!("killed-graceful-timeout"),
            &json!("KILL"),
            &json!(null)
        )
    );
    assert_eq!(
        master.status()["slots"][0]["restarts"],
        0,
        "it was asked to go"
    );
}

#[test]
fn u7_every_cause_of_an_end_has_its_name() {
    let options = "-n 1 --ready fd=9 --backoff 1ms..1ms --start-timeout 6s --start-failures 1";
    let scene = Scene::new();
    scene.app(r#"say up; up; read code <"$PF_TEST_DOOR$PF_WORKER"; rest"#);
    let master = scene.master(options).start();
    signal(scene.report("up").pid, Signal::SIGABRT);
    scene.report("up");
    let exit = last_exit(&master, "one that was killed");
    assert_eq!(
        (&exit["cause"], &exit["signal"], &exit["code"]),
        (&json!("signaled"), &json!("ABRT"), &json!(null))
    );
    assert!(
        exit["core"].is_boolean() && exit["output"].is_null(),
        "{exit}"
    );
    assert!(
        exit["at"].as_str().is_some_and(|at| at.ends_with('Z')),
        "{exit}"
    );

    // TERM from another process is not the master's stop signal.
    signal(master.workers()[0], Signal::SIGTERM);
    scene.report("up");
    let exit = last_exit(&master, "one that was killed");
    assert_eq!(
        (&exit["cause"], &exit["signal"]),
        (&json!("signaled"), &json!("TERM"))
    );

    master.ctl("restart-worker 0").succeeded();
    master.until("no worker retires", |status| {
        status["workers"]["retiring"] == 0
    });
    let exit = last_exit(&master, "one that was stopped");
    assert_eq!(
        (&exit["cause"], &exit["signal"]),
        (&json!("stopped"), &json!("TERM"))
    );

    scene.app("exit 42");
    master.ctl("reload").failed(1, &["code 42"]);
    let exit = last_exit(&master, "one that exited");
    assert_eq!(
        (&exit["cause"], &exit["code"], &exit["signal"]),
        (&json!("exited"), &json!(42), &json!(null))
    );

    scene.app("rest");
    master.ctl("reload").failed(1, &["not ready within"]);
    let exit = last_exit(&master, "one that was not ready");
    assert_eq!(
        (&exit["cause"], &exit["signal"]),
        (&json!("killed-start-timeout"), &json!("KILL"))
    );
    master.stop();
}

#[test]
fn a_new_release_starts_although_the_old_one_cannot() {
    // The canary is to be in slot 0, where the old generation waits, or is down for good.
    for (end, state) in [("exit 1", "backoff"), ("exit 77", "down")] {
        let scene = Scene::new();
        scene.app(&format!(
            r#"say up; up; [ $PF_WORKER = 1 ] && rest; read x <"$PF_TEST_DOOR$PF_WORKER"; {end}"#
        ));
        let options =
            "-n 2 --ready fd=9 --canary 100ms --backoff 1h..2h --fatal-exit 77 --start-failures 1";
        let master = scene.master(options).start();
        scene.open_door(0);
        master.until("it fails", |status| slot_state(status, 0) == state);
        scene.app("exit 9");
        master.ctl("reload").failed(1, &["slot 0", "code 9"]);
        scene.app(RESTING);
        master.ctl("reload").succeeded();
        let status = master.status();
        assert_eq!(
            (&status["workers"]["ready"], &status["generation"]),
            (&json!(2), &json!(3))
        );
        master.stop();
    }
}
