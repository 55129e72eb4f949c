//! Signals that the terminal itself sends: a resize is no pause.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use crate::common::running::{Running, pf_listen};
use crate::common::service::{Control, Master, Scene, process, until};
use crate::common::terminal::{resize, terminal, wait_for_text};

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

/// Runs `script` in a shell with job control on a terminal with `stty tostop`, whose stderr is the
/// terminal. Returns the shell and the terminal.
fn with_tostop(scene: &Scene, script: &str) -> (Running, File) {
    let (terminal, slave) = terminal();
    let script = format!("exec 2>/dev/tty; stty tostop </dev/tty; {script}");
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile"]);
    command.args(["-i", "-c", &script, pf_listen()]);
    command.current_dir(scene.dir());
    command.env("PF_TEST_SAY", scene.path("say"));
    command.env("MASTER", env!("CARGO_BIN_EXE_pf-master"));
    (Running::start_on(command, slave), terminal)
}

#[test]
fn a_background_master_writes_its_log_to_a_terminal_with_tostop() {
    for hold in ["", "--hold"] {
        let scene = Scene::new();
        let script = format!(
            "\"$0\" {hold} 127.0.0.1:0 -- \"$MASTER\" -n 1 --ready fd=9 --pid app.pid -- \
             sh app & echo $!; wait $!; echo ended $?"
        );
        let (mut shell, terminal) = with_tostop(&scene, &script);
        let first: i32 = shell.line().parse().expect("a pid");
        let worker = scene.report("up").pid;
        wait_for_text(&terminal, "start done");
        process::signal(worker, nix::sys::signal::Signal::SIGKILL);
        // It is still a master that acts: a log line was not its last deed.
        scene.report("up");
        wait_for_text(&terminal, "was killed by KILL");
        let status = until("it answers", || {
            Control::connect(&scene.path("app.ctl")).ok()?.try_status()
        });
        assert_eq!(status["state"], "running");
        process::signal(first, nix::sys::signal::Signal::SIGTERM);
        assert_eq!(shell.line(), "ended 0", "{hold}");
    }
}

#[test]
fn a_background_master_that_fails_says_so_on_a_terminal_with_tostop() {
    let scene = Scene::new();
    scene.app("exit 7");
    let script = "\"$MASTER\" -n 1 --start-failures 1 --pid app.pid -- sh app & wait $!; echo $?";
    let (mut shell, terminal) = with_tostop(&scene, script);
    assert_eq!(shell.line(), "1");
    wait_for_text(&terminal, "pf-master: the first rollout failed");
}
