//! On a terminal: the signal of a key reaches COMMAND once, and a hang-up reaches it at all.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use crate::common::running::{Running, pf_listen};
use crate::common::service::{Master, Scene, process};
use crate::common::terminal::{resize, terminal};

/// A service under a holder that leads a session, which the terminal controls.
fn on_terminal(scene: &Scene, ignoring: &str) -> (File, Master) {
    let (terminal, slave) = terminal();
    scene.app("play 'catch ready'");
    let start = format!(
        r#"trap '' {ignoring} WINCH; trap - WINCH; exec {} --hold 127.0.0.1:0 -- "$@""#,
        pf_listen()
    );
    let master = scene
        .master("-v -n 1 --ready notify")
        .wrapped_in(["setsid", "--ctty", "sh", "-c", &start, "sh"])
        .stdin(slave)
        .start();
    (terminal, master)
}

#[test]
fn s4_ctrl_c_is_one_interrupt_for_the_chain() {
    let scene = Scene::new();
    let (mut terminal, mut master) = on_terminal(&scene, "");
    let worker = master.workers()[0];
    resize(&terminal, 33);
    master.wait_for_log("WINCH from the terminal");
    terminal.write_all(b"\x03").expect("typed");
    assert_eq!(scene.report("got INT").pid, worker);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    let log = master.log();
    assert_eq!(log.matches("INT from the terminal").count(), 1, "{log}");
    assert_eq!(log.matches("from a process").count(), 0, "{log}");
}

#[test]
fn u13_a_hangup_of_the_holder_is_a_graceful_stop() {
    let scene = Scene::new();
    let (terminal, mut master) = on_terminal(&scene, "");
    drop(terminal);
    scene.report("got TERM");
    assert_eq!(master.end(), Some(0), "{}", master.log());
}

#[test]
fn p10_the_holder_keeps_ignored_terminal_signals_ignored() {
    let scene = Scene::new();
    let (mut terminal, master) = on_terminal(&scene, "HUP INT");
    terminal.write_all(b"\x03").expect("typed");
    master.wait_for_log("INT from the terminal");
    drop(terminal);
    master.ctl("wait --ready").succeeded();
    master.stop();
}

/// An interactive shell that runs this on the terminal.
fn shell(script: &str, slave: File) -> Running {
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile"]);
    command.args(["-i", "-c", script]);
    Running::start_on(command, slave)
}

/// What a shell has to say of a job that is stopped by Ctrl-Z, continued, and ended by Ctrl-C.
fn job(hold: &str) -> [String; 2] {
    let (mut terminal, slave) = terminal();
    let script = format!(
        r#"{} {hold} 127.0.0.1:0 -- bash -c 'trap "echo on" CONT; trap "exit 7" INT
        echo up; while :; do read -t 0.1; done'
        echo "stopped: $?"; fg >/dev/null; echo "ended: $?""#,
        pf_listen()
    );
    let mut running = shell(&script, slave);
    assert_eq!(running.line(), "up");
    terminal.write_all(b"\x1a").expect("typed");
    let stopped = running.line();
    assert_eq!(running.line(), "on");
    terminal.write_all(b"\x03").expect("typed");
    let mut ended = running.line();
    while ended == "on" {
        // The shell signals the whole group, and the holder passes the shell's signal on.
        ended = running.line();
    }
    [stopped, ended]
}

#[test]
fn a_shell_with_job_control_stops_and_continues_the_chain() {
    let told = job("--hold");
    assert_eq!(told, job(""), "as without a holder");
    assert_eq!(told, ["stopped: 148", "ended: 7"]);
}

#[test]
fn a_hangup_from_the_shell_ends_holder_and_command() {
    let (terminal, slave) = terminal();
    let script = format!(
        "{} --hold 127.0.0.1:0 -- bash -c 'echo $PF_HOLD; while :; do read -t 0.1; done'; true",
        pf_listen()
    );
    let mut running = shell(&script, slave);
    let holder: i32 = running.line().parse().expect("a pid");
    drop(terminal);
    process::gone(holder);
}
