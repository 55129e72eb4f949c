//! Signals that the terminal itself sends: a resize is no pause.

use std::fs::File;
use std::io::Write;

use crate::common::service::{Master, Scene};
use crate::common::terminal::{resize, terminal};

/// A master that leads a session which the terminal controls. It is started with the signals
/// `ignoring` ignored.
fn on_terminal(scene: &Scene, ignoring: &str) -> (File, Master) {
    let (terminal, slave) = terminal();
    scene.app("play 'catch ready'");
    let ignore = format!(r#"trap '' {ignoring}; exec "$@""#);
    let wrapper = [
        "setsid",
        "--ctty",
        "sh",
        "-c",
        if ignoring.is_empty() {
            r#"exec "$@""#
        } else {
            &ignore
        },
        "sh",
    ];
    let master = scene
        .master("-v -n 1 --ready notify")
        .wrapped_in(wrapper)
        .stdin(slave)
        .start();
    (terminal, master)
}

#[test]
fn u12_s4_a_resize_is_ignored_and_ctrl_c_stops() {
    let scene = Scene::new();
    let (mut terminal, mut master) = on_terminal(&scene, "");
    let workers = master.workers();
    resize(&terminal, 33);
    master.wait_for_log("WINCH from the terminal");
    assert_eq!(
        (master.workers(), &master.status()["state"]),
        (workers.clone(), &"running".into())
    );
    terminal.write_all(b"\x03").expect("typed");
    assert_eq!(scene.report("got INT").pid, workers[0]);
    assert_eq!(master.end(), Some(0));
    let heard = scene.unread_reports();
    assert!(
        !heard.iter().any(|report| report.text.starts_with("got")),
        "from the master alone, once: {heard:?}"
    );
}

#[test]
fn u13_a_hangup_is_a_graceful_stop() {
    let scene = Scene::new();
    let (terminal, mut master) = on_terminal(&scene, "");
    drop(terminal);
    scene.report("got TERM");
    assert_eq!(master.end(), Some(0));
}

#[test]
fn p10_the_master_keeps_ignored_terminal_signals_ignored() {
    let scene = Scene::new();
    // What nohup does, and a shell with a job in the background.
    let (mut terminal, master) = on_terminal(&scene, "HUP INT QUIT");
    let workers = master.workers();
    terminal.write_all(b"\x03").expect("typed");
    master.wait_for_log("INT from the terminal");
    drop(terminal);
    master.wait_for_log("HUP from the terminal");
    assert_eq!(
        (master.workers(), &master.status()["state"]),
        (workers, &"running".into())
    );
    // From a process it means what it always means.
    master.signal(nix::sys::signal::Signal::SIGHUP);
    master.until("reloaded", |status| {
        status["generation"] == 2 && status["state"] == "running"
    });
    master.stop();
}
