//! Ten thousand signals at full speed, and a terminal's signals: no kind is lost and nothing else
//! happens (U8, U12, U34, S4, R59, R63).

use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::slot;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene, process, until};
use crate::common::terminal::{resize, terminal};

use Signal::{SIGCHLD, SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};

const ALL: [Signal; 7] = [
    SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGTTIN, SIGTTOU, SIGCHLD,
];

/// What changes nothing that these tests look at.
const NOISE: [Signal; 2] = [SIGUSR2, SIGCHLD];

/// Sends `count` signals of these kinds, mixed, as fast as possible.
fn storm(master: &Master, kinds: &[Signal], count: usize) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let pick = usize::try_from(state >> 33).expect("fits") % kinds.len();
        master.signal(kinds[pick]);
    }
}

/// Right after a storm, `scale 3` holds, with any signals still pending. Returns the status
/// once nothing more happens.
#[track_caller]
fn three(master: &Master) -> Value {
    master.ctl("scale 3 --timeout 60s").succeeded();
    let holds = |status: &Value| {
        assert_eq!(
            (&status["workers"]["wanted"], status["state"] == "paused"),
            (&3.into(), false),
            "{status:#}\n{}",
            master.log()
        );
    };
    let status = master.until("three ready, and nothing going on", |status| {
        holds(status);
        status["state"] == "running"
            && status["workers"]["ready"] == 3
            && status["workers"]["retiring"] == 0
    });
    holds(&master.status());
    status
}

/// A storm of all kinds, then one signal of this kind among many without effect. Returns the status
/// before that one.
fn last_of(master: &Master, kind: Signal, mut before: impl FnMut()) -> Value {
    storm(master, &ALL, 1430);
    let status = three(master);
    before();
    storm(master, &NOISE, 100);
    master.signal(kind);
    storm(master, &NOISE, 100);
    status
}

#[test]
fn u8_u34_r59_of_ten_thousand_signals_no_kind_is_lost() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let log = scene.path("master.log");
    let master = scene
        .master("-n 3 --ready exec --backoff 1ms..10ms")
        .option("--log", &log)
        // As under `pf-listen --hold`, where a second master is refused: ten thousand masters would
        // be another test.
        .env("PF_HOLD", std::process::id().to_string())
        .command(["sleep", "1000"])
        .start();

    let before = last_of(&master, SIGHUP, || ());
    let old = before["generation"].as_u64();
    master.until("HUP: a new generation", |status| {
        status["generation"].as_u64() > old
    });

    last_of(&master, SIGUSR1, || {
        std::fs::rename(&log, scene.path("old.log")).expect("renamed");
    });
    until("USR1: the log is reopened", || log.exists().then_some(()));

    let refusals = || scene.text("master.log").matches("USR2").count();
    last_of(&master, SIGUSR2, || ());
    // It is refused, with a line each: any of those that came with it in the end would do.
    let before = refusals();
    master.signal(SIGUSR2);
    until("USR2: a line", || (refusals() > before).then_some(()));

    last_of(&master, SIGWINCH, || ());
    master.until("WINCH: paused", |status| status["state"] == "paused");

    last_of(&master, SIGTTIN, || ());
    master.until("TTIN: one more", |status| status["workers"]["ready"] == 4);

    last_of(&master, SIGTTOU, || ());
    master.until("TTOU: one less", |status| {
        status["workers"]["wanted"] == 2 && status["workers"]["ready"] == 2
    });

    let mut victim = 0;
    last_of(&master, SIGCHLD, || {
        victim = master.workers()[1];
        process::signal(victim, Signal::SIGKILL);
    });
    master.until("CHLD: the dead is replaced", |status| {
        let slot = slot(status, 1);
        slot["state"] == "ready" && slot["pid"] != victim
    });

    three(&master);
    assert!(!master.log().contains("panicked"), "{}", master.log());
    master.stop();
    processes.gone();
}

#[test]
fn u12_s4_a_thousand_resizes_do_no_harm() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("play 'catch ready'");
    let (mut terminal, other) = terminal();
    let mut master = scene
        .master("-v -n 2 --ready notify")
        .wrapped_in(["setsid", "--ctty"])
        .stdin(other)
        .start();
    let workers = master.workers();
    for rows in 1..=1000 {
        resize(&terminal, rows);
    }
    master.wait_for_log("WINCH from the terminal");
    let status = master.status();
    assert_eq!(status["state"], "running");
    assert_eq!(
        crate::common::service::master::pids(&status["slots"]),
        workers
    );

    // A process that sends the same means it.
    master.signal(SIGWINCH);
    master.until("paused", |status| {
        status["state"] == "paused" && status["workers"]["retiring"] == 0
    });
    let told = scene.reports("got TERM", 2);
    let told: Vec<i32> = told.iter().map(|report| report.pid).collect();
    assert_eq!(told, workers);
    master.ctl("resume").succeeded();
    let workers = master.workers();

    terminal.write_all(b"\x03").expect("typed");
    let told = scene.reports("got INT", 2);
    let told: Vec<i32> = told.iter().map(|report| report.pid).collect();
    assert_eq!(told, workers);
    assert_eq!(master.end(), Some(0));
    let more: Vec<_> = scene
        .unread_reports()
        .into_iter()
        .filter(|report| report.text.starts_with("got"))
        .collect();
    assert_eq!(more, [], "from the master alone, and once");
    drop(terminal);
    processes.gone();
}
