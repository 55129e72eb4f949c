//! COMMAND gets what it would get of a chain that executes it, each time that it is started.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix::sys::signal::Signal;

use super::support::{child, held, pid};
use crate::common::running::{Running, finished, pf_listen};
use crate::common::service::process::{self, descriptors};
use crate::common::service::{Scene, until};
use crate::reporter::{inodes, listen_and_report, reported, shell};

#[test]
fn u1_u21_held_command_inherits_what_exec_keeps() {
    let script = |hold: &str| {
        format!(
            r#"exec 7</dev/null 9</dev/zero; cd /
            exec "$LISTEN" {hold} a=127.0.0.1:0 127.0.0.1:0 -- "$@""#
        )
    };
    let plain = reported(shell(&script("")));
    let mut running = Running::start(shell(&script("--hold")));
    let report = running.report();
    assert_ne!(report["pid"], running.pid(), "it is a child");
    assert_eq!(report["env"]["LISTEN_PID"], report["pid"].to_string());
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        assert_eq!(report["env"][name], plain["env"][name]);
    }
    assert_eq!(report["cwd"], "/");
    let kinds = |report: &serde_json::Value| -> BTreeMap<String, String> {
        let fds = report["fds"].as_object().expect("fds");
        // The standard streams differ, and so do the inode numbers of sockets and pipes.
        let kind = |target: &serde_json::Value| {
            let text = target.as_str().expect("text");
            text.split(':').next().unwrap_or(text).to_owned()
        };
        fds.iter()
            .filter(|(number, _)| !["0", "1", "2"].contains(&number.as_str()))
            .map(|(number, target)| (number.clone(), kind(target)))
            .collect()
    };
    assert_eq!(kinds(&report), kinds(&plain));
    // Its standard input is ours: at the end of that it ends, and the holder with it.
    let (status, errors) = running.finish();
    assert!(status.success() && errors.is_empty(), "{status}: {errors}");
}

#[test]
fn u28_held_command_inherits_the_signal_state() {
    let status = |hold: &str, before: &str| {
        let script = format!(r#"{before} "$LISTEN" {hold} 127.0.0.1:0 -- cat /proc/self/status"#);
        let (code, out, errors) = finished(shell(&script));
        assert_eq!(code, 0, "{errors}");
        let field = |key: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(key));
            line.expect("a mask").trim().to_owned()
        };
        ["SigBlk:", "SigIgn:", "SigCgt:"].map(field)
    };
    for before in [
        "exec",
        "trap '' HUP INT CHLD; exec",
        "exec env --block-signal=USR1,TERM --ignore-signal=QUIT",
    ] {
        assert_eq!(status("--hold", before), status("", before), "{before}");
    }
}

/// Its descriptors, once it waits.
fn settled(holder: i32) -> std::collections::BTreeMap<i32, String> {
    until("it waits", || {
        process::status(holder, "State")
            .starts_with('S')
            .then(|| descriptors(holder))
    })
}

#[test]
fn each_run_has_its_listen_pid_and_the_same_sockets() {
    let mut running = Running::start(listen_and_report(["--hold", "127.0.0.1:0", "[::1]:0"]));
    let first = running.report();
    let holder = pid(&running);
    let mut before = None;
    for _ in 0..5 {
        let killed = child(&running);
        process::signal(killed, Signal::SIGKILL);
        let next = running.report();
        assert_ne!(next["pid"], killed);
        assert_eq!(next["env"]["LISTEN_PID"], next["pid"].to_string());
        assert_eq!(inodes(&next), inodes(&first), "the sockets live on");
        assert_eq!(
            next["fds"].as_object().map(|fds| fds.len()),
            first["fds"].as_object().map(|fds| fds.len())
        );
        // What it needs for a start it lets go of a moment later.
        match &before {
            None => before = Some(settled(holder)),
            Some(before) => until("nothing is left open", || {
                (&descriptors(holder) == before).then_some(())
            }),
        }
    }
}

#[test]
fn variables_that_name_the_process_name_the_child() {
    let script = r#"WATCHDOG_PID=$$ exec "$LISTEN" --hold 127.0.0.1:0 -- sh -c '
        echo $LISTEN_PID $WATCHDOG_PID $$; echo $PF_HOLD $PPID'"#;
    let (code, out, errors) = finished(shell(script));
    assert_eq!(code, 0, "{errors}");
    for line in out.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            words
                .iter()
                .all(|word| *word == words[0] && !word.is_empty()),
            "{out}"
        );
    }
    // A variable meant for another process is not changed.
    let script =
        r#"WATCHDOG_PID=1 exec "$LISTEN" --hold 127.0.0.1:0 -- sh -c 'echo $WATCHDOG_PID'"#;
    assert_eq!(finished(shell(script)).1, "1\n");
}

#[test]
fn only_the_master_gets_pf_hold() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in([pf_listen(), "--hold", "127.0.0.1:0", "--"])
        .start();
    let status = master.status();
    let pid = i32::try_from(status["pid"].as_i64().expect("a number")).expect("a pid");
    assert_ne!(pid, master.pid());
    assert_eq!(
        process::environment(pid)["PF_HOLD"],
        master.pid().to_string()
    );
    let worker = process::environment(master.workers()[0]);
    assert_eq!(worker.get("PF_HOLD"), None, "{worker:?}");
    assert_eq!(worker["LISTEN_FDS"], "1");
    // Its end is the holder's.
    master.stop();
}

#[test]
fn a_descriptor_in_the_way_warns_once() {
    let script = r#"exec 4</dev/zero; exec "$LISTEN" --hold 127.0.0.1:0 web=127.0.0.1:0 -- "$@""#;
    let mut running = Running::start(shell(script));
    let report = running.report();
    assert!(
        report["fds"]["4"]
            .as_str()
            .is_some_and(|target| target.starts_with("socket:"))
    );
    process::signal(child(&running), Signal::SIGKILL);
    let report = running.report();
    assert!(
        report["fds"]["4"]
            .as_str()
            .is_some_and(|target| target.starts_with("socket:"))
    );
    let (_, errors) = running.finish();
    assert_eq!(
        errors
            .matches("fd 4 (/dev/zero) is replaced by the listener web")
            .count(),
        1,
        "{errors}"
    );
}

#[test]
fn an_idle_holder_is_never_woken() {
    let mut running = Running::start(held("echo up; exec sleep 1000"));
    assert_eq!(running.line(), "up");
    let holder = pid(&running);
    // What it still had to do for the start is done when it sleeps.
    until("it sleeps", || {
        process::status(holder, "State")
            .starts_with('S')
            .then_some(())
    });
    let switches = || {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .map(|field| process::status(holder, field))
    };
    let before = switches();
    prefork::sys::machine::clock::pause(std::time::Duration::from_secs(1));
    assert_eq!(switches(), before);
}

#[test]
fn the_program_is_looked_up_anew_at_each_start() {
    let scene = Scene::new();
    scene.script("a", "echo a; rest");
    scene.script("b", "echo b; rest");
    let path = scene.path("current");
    let link = |name: &str| symlink(scene.path(name), &path).expect("a link");
    link("a");
    let mut command = Command::new(pf_listen());
    command.args(["--hold", "127.0.0.1:0", "--"]).arg(&path);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "a");
    // For a while it is not there: no reason to give up, once it has run.
    std::fs::remove_file(&path).expect("our own");
    process::signal(child(&running), Signal::SIGKILL);
    let told = running.error_line("could not be executed; started again in");
    assert!(told.starts_with("pf-listen: "), "{told}");
    link("b");
    assert_eq!(running.line(), "b");
}
