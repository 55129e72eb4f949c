//! What workers are born with, and signals in their first microseconds (U21, U28, R60, R86).

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::service::process::{self, descriptors, status};
use crate::common::service::scene_processes::{SceneProcesses, children, guard_of};
use crate::common::service::{Scene, until};

/// A worker that TERM ends, unless a mask or a handler prevents it.
const SLEEP: [&str; 2] = ["sleep", "1000"];

#[test]
fn u28_r60_a_signal_right_after_the_fork_takes_effect() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 1 --ready exec --start-failures 1000 --backoff 1ms..1ms")
        .command(SLEEP)
        .start();
    let mut control = master.control();
    let scale = |to: u32, wait: bool| json!({"cmd": "scale", "workers": to, "wait": wait});
    for round in 0..200 {
        // The master reads it at once, so its next act after the fork is the signal to the worker.
        let signal = json!({"cmd": "signal", "signal": "TERM", "slot": 1});
        let (begin, look) = (scale(2, false), json!({"cmd": "status"}));
        control
            .send(format!("{begin}\n{signal}\n{look}\n"))
            .expect("sent");
        for what in ["scale", "signal"] {
            let reply = control.reply();
            assert_eq!(reply["ok"], true, "round {round}, {what}: {reply}");
        }
        let status = control.reply()["status"].clone();
        let newborn = crate::common::service::master::pids(&status["slots"])[1];
        assert!(newborn > 1, "round {round}: {status:#}");
        process::gone(newborn);
        let reply = control.ask(&scale(1, true));
        assert_eq!(reply["ok"], true, "round {round}: {reply}");
    }
    drop(control);
    master.stop();
    processes.gone();
}

#[test]
fn u28_r60_a_signal_to_a_new_worker_takes_effect() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 1 --ready exec --start-failures 1000 --backoff 1ms..1ms")
        .command(SLEEP)
        .start();
    // Not all that have been: their numbers may come again.
    let guard = guard_of(master.pid());
    // Each is killed at first sight, which makes the master start the next.
    process::signal(master.workers()[0], Signal::SIGTERM);
    for _ in 0..200 {
        let newborn = until("the next", || {
            let all = children(master.pid());
            all.into_iter().find(|pid| *pid != guard)
        });
        process::signal(newborn, Signal::SIGTERM);
        process::gone(newborn);
    }
    master.ctl("wait --ready --timeout 60s").succeeded();
    master.stop();
    processes.gone();
}

#[test]
fn p11_u21_u28_r86_after_two_hundred_reloads_nothing_has_leaked() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    std::fs::write(scene.path("kept"), "kept").expect("written");
    let leaky = [
        "sh",
        "-c",
        r#"exec 7<kept 8</dev/zero 9</dev/zero; exec "$@""#,
        "sh",
    ];
    scene.app("echo >&6; exec sleep 1000");
    let options =
        "-n 2 --ready fd=6 --keep-fd 7 --listen 127.0.0.1:0 --listen unix:app.sock --timeout 1h";
    let master = scene.master(options).wrapped_in(leaky).start();
    let guard = guard_of(master.pid());
    let expected = [0, 1, 2, 3, 4, 5, 6, 7];
    let environment = |pid: i32| -> Vec<String> { process::environment(pid).into_keys().collect() };
    let look = |reloads: usize| {
        for pid in master.workers() {
            process::wait_for_sleep(pid);
            let open = descriptors(pid);
            let numbers: Vec<i32> = open.keys().copied().collect();
            // The ready pipe is the script's, which hands it on.
            assert_eq!(numbers, expected, "after {reloads}: {open:?}");
            assert_eq!(open[&0], "/dev/null");
            assert_eq!((open[&3].as_str(), open[&4].as_str()), ("socket", "socket"));
            assert!(open[&5].contains("pf-heartbeat"), "{open:?}");
            assert_eq!(open[&6], "pipe");
            assert_eq!(open[&7], scene.path("kept").display().to_string());
            for field in ["SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"] {
                assert_eq!(status(pid, field), "0000000000000000", "{field}");
            }
        }
        environment(master.workers()[0])
    };
    let variables = look(0);
    // The guard was given the workers before they were ready; once it sleeps, it has read that.
    process::wait_for_sleep_of(guard, "pf-guard");
    let open = |pid: i32| descriptors(pid).len();
    let (masters, guards) = (open(master.pid()), open(guard));
    let mut control = master.control();
    for reload in 0..200 {
        let reply = control.ask(&json!({"cmd": "reload"}));
        assert_eq!(reply["ok"], true, "reload {reload}: {reply}");
    }
    assert_eq!(look(200), variables);
    drop(control);
    until("the master has as many as at first", || {
        (open(master.pid()) <= masters).then_some(())
    });
    until("the guard too", || (open(guard) <= guards).then_some(()));
    master.stop();
    processes.gone();
}

#[test]
fn u21_a_kept_descriptor_that_collides_is_a_usage_error() {
    let scene = Scene::new();
    let with = [
        "sh",
        "-c",
        r#"exec 4</dev/zero 9</dev/zero; exec "$@""#,
        "sh",
    ];
    let two = "--listen 127.0.0.1:0 --listen 127.0.0.1:0";
    for (options, code, parts) in [
        (
            format!("{two} --keep-fd 4"),
            2,
            ["--keep-fd 4", "listeners"],
        ),
        (
            "--ready fd=9 --keep-fd 9".to_owned(),
            2,
            ["--ready fd=9", "--keep-fd 9"],
        ),
        ("--keep-fd 11".to_owned(), 111, ["--keep-fd", "not open"]),
    ] {
        let ended = scene
            .master(&format!("-n 1 {options}"))
            .names("")
            .wrapped_in(with)
            .run();
        ended.failed(code, &parts);
    }
    let named_twice = scene
        .master("-n 1 --ready exec --keep-fd 9 --keep-fd 9")
        .wrapped_in(with)
        .command(SLEEP)
        .start();
    let open = descriptors(named_twice.workers()[0]);
    assert!(open.contains_key(&9), "{open:?}");
    named_twice.stop();
}
