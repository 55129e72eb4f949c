//! System calls of a real master fail, injected by strace. A failure at the start refuses the start
//! with one line; a later failure is retried (U34, R68).

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use super::support::slot;
use crate::common::fault::{self, Fault, injection};
use crate::common::service::scene_processes::{SceneProcesses, guard_of};
use crate::common::service::{Scene, process, until};
use crate::common::support::unavailable;

/// Each: what fails, how, and what the log says of it.
const WHILE_IT_RUNS: [(&str, &str, &str); 8] = [
    ("clone", "ENOMEM", "cannot fork: Cannot allocate memory"),
    ("clone", "EAGAIN", "cannot fork: Resource temporarily"),
    ("pipe2", "ENFILE", "cannot fork: Too many open files"),
    ("socket", "ENOBUFS", "cannot make its notify socket"),
    ("bind", "ENOMEM", "cannot make its notify socket"),
    ("memfd_create", "ENOMEM", "cannot make its heartbeat page"),
    ("getrandom", "EIO", "cannot make its notify socket"),
    ("epoll_ctl", "ENOSPC", "cannot listen to it"),
];

#[test]
fn u34_r68_each_failure_at_run_time_is_retried() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 2 --ready exec --backoff 5ms..20ms --start-failures 100000")
        // Without memfd there would be a file in the temporary directory.
        .env("TMPDIR", "/nonexistent")
        .command(["sleep", "1000"])
        .start();
    let mut control = master.control();
    let neighbour = master.workers()[1];
    for (call, error, told) in WHILE_IT_RUNS {
        let before = master.log().matches(told).count();
        let victim = crate::common::service::master::pids(&control.status()["slots"])[0];
        let Some(fault) = Fault::begin(master.pid(), call, &format!("error={error}")) else {
            return unavailable("strace may not attach to another process");
        };
        process::signal(victim, Signal::SIGKILL);
        until("it is told twice", || {
            (master.log().matches(told).count() >= before + 2).then_some(())
        });
        let status = control.status();
        assert_eq!(slot(&status, 0)["state"], "backoff", "{call} {error}");
        assert_eq!(
            slot(&status, 0)["last_exit"]["cause"],
            "spawn-failed",
            "{call} {error}"
        );
        assert_eq!(slot(&status, 1)["pid"], neighbour, "{call} {error}");
        drop(fault);
        until("ready again", || {
            (slot(&control.status(), 0)["state"] == "ready").then_some(())
        });
    }
    drop(control);
    assert!(!master.log().contains("panicked"), "{}", master.log());
    master.stop();
    processes.gone();
}

/// A worker with a second process in its group.
const FAMILY: &str = "sleep 1001 & exec sleep 1000";

#[test]
fn u34_r57_groups_end_without_pidfds() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app(FAMILY);
    let master = scene
        .master(
            "-n 1 --ready exec --backoff 5ms..20ms --start-failures 100000 --graceful-timeout 1s",
        )
        .start();
    for (call, error) in [
        ("pidfd_open", "EMFILE"),
        ("pidfd_open", "ENOMEM"),
        ("pidfd_open", "ENOSYS"),
        ("pidfd_send_signal", "EINVAL"),
        ("poll,ppoll", "ENOMEM"),
    ] {
        let leader = master.workers()[0];
        let child = until("the family is there", || {
            process::descendants(leader).first().map(|(pid, _)| *pid)
        });
        let Some(fault) = Fault::begin(master.pid(), call, &format!("error={error}")) else {
            return unavailable("strace may not attach to another process");
        };
        process::signal(leader, Signal::SIGKILL);
        process::gone(child);
        until("replaced", || {
            let pid = master.workers()[0];
            (pid != 0 && pid != leader).then_some(())
        });
        drop(fault);
        until(
            "no process of the old group is left, be it a zombie",
            || {
                let group = process::descendants(master.pid());
                (group.iter().all(|(_, state)| *state != 'Z')).then_some(())
            },
        );
    }
    assert!(process::alive(guard_of(master.pid())));
    drop(master);
    processes.gone();
}

/// Each: what fails at the start, how, and what the one line says.
const AT_THE_START: [(&str, &str, &str); 8] = [
    ("socketpair", "EMFILE", "Too many open files"),
    ("epoll_create1", "ENOMEM", "Cannot allocate memory"),
    ("clone", "EAGAIN", "Resource temporarily unavailable"),
    ("bind", "EACCES", "Permission denied"),
    ("listen", "ENOBUFS", "No buffer space"),
    ("linkat", "EIO", "cannot take pid file"),
    ("fsync", "ENOSPC", "cannot take pid file"),
    ("prctl", "EINVAL", "cannot become a subreaper"),
];

#[test]
fn u34_r68_each_failure_at_the_start_is_one_line() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // What the test itself puts there, and a listener's path, which stays as ever.
    let names = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(scene.dir()).expect("a directory");
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .map(|name| name.into_string().expect("UTF-8"))
            .filter(|name| !["run.out", "run.err", "app.sock"].contains(&name.as_str()))
            .collect()
    };
    let before = names();
    for (call, error, told) in AT_THE_START {
        let mut wrapper = vec!["strace".to_owned(), "-q".to_owned()];
        wrapper.extend(["-o".to_owned(), "/dev/null".to_owned()]);
        wrapper.extend(injection(call, &format!("error={error}")));
        let ended = scene
            .master("-q -n 1 --ready exec --listen unix:app.sock,mode=0600")
            .wrapped_in(&wrapper)
            .command(["sleep", "1000"])
            .run();
        assert_eq!(ended.stderr.lines().count(), 1, "{call}: {ended:?}");
        assert_eq!(ended.code, Some(111), "{call}: {ended:?}");
        assert!(ended.stderr.contains(told), "{call}: {ended:?}");
        assert_eq!(names(), before, "{call}");
        processes.gone();
    }
}
