//! Every signal of the master's table, sent by a process.

use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use crate::common::service::master::pids;
use crate::common::service::{Scene, process};

/// Workers that tell which signals they get, and go at TERM, INT and QUIT.
const CATCHING: &str = "play 'catch ready'";

/// Workers that go at nothing but KILL.
const STUBBORN: &str = "play 'catch stubborn ready'";

#[test]
fn u9_quit_and_term_are_graceful_and_int_is_quick() {
    let cases = [
        (Signal::SIGQUIT, "", "got TERM"),
        (Signal::SIGTERM, "", "got TERM"),
        (Signal::SIGINT, "", "got INT"),
        (Signal::SIGTERM, "--term quick", "got INT"),
        (Signal::SIGQUIT, "--term quick", "got TERM"),
        (Signal::SIGTERM, "--graceful-signal QUIT", "got QUIT"),
        (
            Signal::SIGTERM,
            "--graceful-signal usr2 --graceful-timeout 20s",
            "got USR2",
        ),
        (Signal::SIGINT, "--quick-signal SIGTERM", "got TERM"),
    ];
    for (signal, options, heard) in cases {
        let scene = Scene::new();
        scene.app(CATCHING);
        let mut master = scene
            .master(&format!("-n 2 --ready notify {options}"))
            .start();
        let workers = master.workers();
        master.signal(signal);
        let told = scene.reports(heard, 2);
        assert_eq!(
            told.iter().map(|report| report.pid).collect::<Vec<_>>(),
            workers,
            "{signal} {options}"
        );
        assert_eq!(master.end(), Some(0), "{signal} {options}");
        let others: Vec<_> = scene
            .unread_reports()
            .into_iter()
            .filter(|report| report.text != "catching")
            .collect();
        assert_eq!(others, [], "one signal each: {signal} {options}");
    }
}

#[test]
fn u10_each_further_signal_means_the_next_harder_stop() {
    let scene = Scene::new();
    scene.app(STUBBORN);
    let mut master = scene.master("-n 2 --ready notify").start();
    master.signal(Signal::SIGTERM);
    scene.reports("got TERM", 2);
    master.signal(Signal::SIGQUIT);
    scene.reports("got INT", 2);
    master.signal(Signal::SIGINT);
    assert_eq!(master.end(), Some(0));
    assert!(
        master.log().contains("was killed by KILL"),
        "{}",
        master.log()
    );
}

#[test]
fn u10_the_same_signal_within_a_second_counts_once() {
    let scene = Scene::new();
    scene.app(STUBBORN);
    let mut master = scene.master("-n 1 --ready notify").start();
    let begun = clock::now();
    master.signal(Signal::SIGTERM);
    scene.report("got TERM");
    let counted = clock::now();
    master.signal(Signal::SIGTERM);
    // The master reads its signals before it answers a request.
    assert_eq!(master.status()["state"], "stopping");
    if clock::now().since(begun) < Duration::from_millis(500) {
        master.signal(Signal::SIGTERM);
        assert_eq!(master.status()["state"], "stopping");
    }
    if clock::now().since(begun) < Duration::from_secs(1) {
        let heard = scene.unread_reports();
        assert!(
            !heard.iter().any(|report| report.text.starts_with("got")),
            "{heard:?}"
        );
    }
    clock::pause(Duration::from_secs(1).saturating_sub(clock::now().since(counted)));
    master.signal(Signal::SIGTERM);
    scene.report("got INT");
    master.signal(Signal::SIGINT);
    assert_eq!(master.end(), Some(0));
}

#[test]
fn u13_hup_replaces_all_workers_and_reopens_the_log() {
    let scene = Scene::new();
    let log = scene.path("master.log");
    let master = scene
        .master(&format!("-n 2 --ready fd=9 --log {}", log.display()))
        .start();
    let before = master.workers();
    std::fs::rename(&log, scene.path("master.log.1")).expect("rotated");
    master.signal(Signal::SIGHUP);
    let status = master.until("reloaded", |status| {
        status["generation"] == 2 && status["state"] == "running"
    });
    let after = pids(&status["slots"]);
    assert!(
        after.iter().all(|pid| *pid != 0 && !before.contains(pid)),
        "{before:?} {after:?}"
    );
    assert!(scene.text("master.log.1").contains("generation 1"));
    assert!(!scene.text("master.log.1").contains("generation 2"));
    assert!(
        scene
            .text("master.log")
            .contains("reload done: generation 2"),
        "{}",
        scene.text("master.log")
    );
    master.stop();
}

#[test]
fn u15_u30_usr1_reopens_the_log_and_reaches_workers() {
    let scene = Scene::new();
    // Slot 1 would die of it.
    scene.app("case $PF_WORKER in 0) play 'catch ready';; esac; helper ready; exec sleep 1000");
    let log = scene.path("master.log");
    let master = scene
        .master(&format!("-n 2 --ready notify --log {}", log.display()))
        .start();
    let workers = master.workers();
    for (turn, how) in ["signal", "reopen"].into_iter().enumerate() {
        std::fs::rename(&log, scene.path(&format!("old.{turn}"))).expect("rotated");
        if how == "signal" {
            master.signal(Signal::SIGUSR1);
        } else {
            master.ctl("reopen").succeeded();
        }
        assert_eq!(scene.report("got USR1").pid, workers[0]);
        assert!(log.exists(), "reopened before the workers were told");
    }
    assert_eq!(master.workers(), workers);
    assert_eq!(master.status()["counters"]["died"], 0);
}

#[test]
fn u34_usr2_under_a_holder_is_refused() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready fd=9")
        .env("PF_HOLD", std::process::id().to_string())
        .start();
    let workers = master.workers();
    master.signal(Signal::SIGUSR2);
    master.wait_for_log("USR2");
    assert_eq!(master.workers(), workers);
    assert_eq!(master.status()["state"], "running");
    master.stop();
}

#[test]
fn u12_winch_stops_the_workers_and_keeps_the_master() {
    let scene = Scene::new();
    let master = scene.master("-n 3 --ready fd=9").start();
    let before = master.workers();
    let paused = |status: &serde_json::Value| {
        status["state"] == "paused" && status["workers"]["retiring"] == 0
    };
    master.signal(Signal::SIGWINCH);
    let status = master.until("paused", paused);
    assert_eq!(
        (&status["workers"]["wanted"], &status["workers"]["ready"]),
        (&3.into(), &0.into())
    );
    assert!(before.iter().all(|pid| !process::alive(*pid)));

    // HUP brings as many back as there were, of a new generation.
    master.signal(Signal::SIGHUP);
    master.until("back", |status| {
        status["state"] == "running" && status["workers"]["ready"] == 3 && status["generation"] == 2
    });

    // TTIN counts from none.
    master.signal(Signal::SIGWINCH);
    master.until("paused", paused);
    master.signal(Signal::SIGTTIN);
    master.until("one", |status| {
        status["state"] == "running"
            && status["workers"]["ready"] == 1
            && status["workers"]["wanted"] == 1
    });

    // And pf-ctl does the same.
    master.ctl("pause").succeeded();
    assert_eq!(pids(&master.status()["slots"]), [0]);
    master.ctl("resume").succeeded();
    assert_eq!(master.status()["workers"]["ready"], 1);
    master.ctl("resume").succeeded();
    master.stop();
}

#[test]
fn u11_ttin_adds_a_worker_and_ttou_retires_the_highest() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    let first = scene.report("up").pid;
    master.signal(Signal::SIGTTIN);
    let second = scene.report("up");
    assert_eq!(second.slot, 1);
    master.until("two", |status| status["workers"]["ready"] == 2);
    master.signal(Signal::SIGTTOU);
    master.until("one", |status| {
        status["slots"]
            .as_array()
            .is_some_and(|slots| slots.len() == 1)
            && status["workers"]["retiring"] == 0
    });
    assert_eq!(master.workers(), [first]);
    process::gone(second.pid);
    for _ in 0..2 {
        master.signal(Signal::SIGTTOU);
        master.until("none", |status| status["workers"]["wanted"] == 0);
    }
    process::gone(first);
    assert_eq!(master.status()["state"], "running");
    master.signal(Signal::SIGTTIN);
    assert_eq!(scene.report("up").slot, 0);
    master.stop();
}

#[test]
fn u8_a_burst_of_signals_at_the_start_does_no_harm() {
    use Signal::{SIGCHLD, SIGHUP, SIGPIPE, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
    let scene = Scene::new();
    let stand = scene.path("stand");
    scene.app(&format!(
        "while [ ! -e {} ]; do sleep 0.05; done; up; rest",
        stand.display()
    ));
    let master = scene.master("-n 2 --ready fd=9").spawn();
    // The handlers are installed before the pid file exists.
    crate::common::service::until("the pid file", || {
        scene.path("app.pid").exists().then_some(())
    });
    for _ in 0..100 {
        for signal in [
            SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH, SIGCHLD, SIGPIPE,
        ] {
            master.signal(signal);
        }
    }
    // All of them have come at the start.
    std::fs::write(&stand, "").expect("written");
    master.ctl("scale 2").succeeded();
    crate::common::service::until("a reload is not refused as busy", || {
        let reload = master.ctl("reload");
        (reload.code != Some(6)).then(|| reload.succeeded())
    });
    // No WINCH follows: a request for two workers gives two.
    master.until("two ready", |status| {
        assert_ne!(status["state"], "paused", "{status:#}");
        status["state"] == "running" && status["workers"]["ready"] == 2
    });
    master.stop();
}

#[test]
fn u8_r59_a_signal_before_a_request_is_obeyed_first() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready exec")
        .command(["sleep", "1000"])
        .start();
    let mut control = master.control();
    for round in 0..300 {
        let (signal, wanted) = [(Signal::SIGTTIN, 2), (Signal::SIGTTOU, 1)][round % 2];
        master.signal(signal);
        let status = control.status();
        assert_eq!(status["workers"]["wanted"], wanted, "round {round}");
    }
    master.stop();
}

#[test]
fn a_stopped_worker_still_gets_the_stop_signal() {
    let scene = Scene::new();
    let mut master = scene
        .master("-n 1 --ready fd=9 --graceful-timeout 1h")
        .start();
    let worker = scene.report("up").pid;
    process::signal(worker, Signal::SIGSTOP);
    crate::common::service::until("it is stopped", || {
        process::status(worker, "State")
            .starts_with('T')
            .then_some(())
    });
    master.ctl("stop --timeout 60s").succeeded();
    assert_eq!(master.end(), Some(0));
}

#[test]
fn pf_ctl_signal_reaches_the_chosen_workers() {
    let scene = Scene::new();
    scene.app(CATCHING);
    let master = scene.master("-n 3 --ready notify").start();
    let workers = master.workers();
    master.ctl("signal USR2 --workers").succeeded();
    let told = scene.reports("got USR2", 3);
    assert_eq!(
        told.iter().map(|report| report.pid).collect::<Vec<_>>(),
        workers
    );
    master.ctl("signal HUP --slot 1").succeeded();
    assert_eq!(scene.report("got HUP").pid, workers[1]);
    master.ctl("signal HUP --slot 3").failed(6, &["slot 3"]);
    let heard = scene.unread_reports();
    assert!(
        !heard.iter().any(|report| report.text == "got HUP"),
        "{heard:?}"
    );
    master.ctl("signal TTIN").succeeded();
    master.until("a slot more", |status| status["workers"]["ready"] == 4);
    master.stop();
}
