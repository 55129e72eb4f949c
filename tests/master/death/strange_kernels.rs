//! Kernels that lack a call, profiles that forbid one, a /proc that is missing or another's: there
//! is another way, or one line that names what is missing.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::fault;
use crate::common::service::scene_processes::{SceneProcesses, guard_of};
use crate::common::service::{Scene, process, until};
use crate::common::support::{is_root, is_there, skip, unavailable};

#[test]
fn without_close_range_workers_and_the_guard_have_what_is_theirs() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    for error in ["ENOSYS", "EPERM", "EINVAL"] {
        let master = scene
            .master("-n 1 --ready exec --listen 127.0.0.1:0")
            .command(["sleep", "1000"])
            .wrapped_in(fault::wrapper("close_range", error))
            .start();
        let worker = master.workers()[0];
        process::wait_for_sleep(worker);
        let numbers: Vec<i32> = process::descriptors(worker).into_keys().collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{error}");
        // Its socket, and a pidfd of the worker once it has read of it.
        let guard = guard_of(master.pid());
        let guard = until("the guard knows the worker", || {
            let guard = process::descriptors(guard);
            (guard.len() > 4).then_some(guard)
        });
        let numbers: Vec<i32> = guard.keys().copied().collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{error}: {guard:?}");
        assert_eq!(guard.values().filter(|what| *what == "socket").count(), 1);
        master.stop();
        processes.gone();
    }
}

/// Runs `pf-ctl` where these calls fail.
fn ctl_without(calls: &str, scene: &Scene, line: &[&str]) -> (Option<i32>, String) {
    let wrapper = fault::wrapper(calls, "ENOSYS");
    let ended = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(env!("CARGO_BIN_EXE_pf-ctl"))
        .arg(line[0])
        .arg(scene.path("app.pid"))
        .args(&line[1..])
        .stdin(Stdio::null())
        .output()
        .expect("strace");
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended.status.code(), text)
}

#[test]
fn without_pidfds_the_clients_reach_the_master_and_see_its_end() {
    if !fault::possible() {
        return;
    }
    let calls = "pidfd_open,pidfd_send_signal";
    let scene = Scene::new();
    let mut master = scene
        .master("-n 1 --ready exec")
        .command(["sleep", "1000"])
        .wrapped_in(fault::wrapper(calls, "ENOSYS"))
        .start();
    for line in [
        &["pid"][..],
        &["reload"],
        &["upgrade"],
        &["signal", "USR1"],
        &["wait", "--ready"],
    ] {
        let (code, text) = ctl_without(calls, &scene, line);
        assert_eq!(code, Some(0), "{line:?}: {text}\n{}", master.log());
    }
    // Each needs to know the end of one process.
    let worker = master.workers()[0];
    process::signal(worker, Signal::SIGKILL);
    master.until("replaced", |status| status["slots"][0]["restarts"] == 1);
    let (code, text) = ctl_without(calls, &scene, &["stop"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(master.end(), Some(0));
    let (code, _) = ctl_without(calls, &scene, &["pid"]);
    assert_eq!(code, Some(3));
}

#[test]
fn r57_without_pidfds_nothing_of_a_group_survives_the_master() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app("trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & up; say up; wait; rest");
    let mut master = scene
        .master("-n 2 --ready fd=9 --graceful-timeout 300ms")
        .wrapped_in(fault::wrapper("pidfd_open,pidfd_send_signal", "ENOSYS"))
        .start();
    scene.reports("up", 2);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None);
    processes.gone();
}

#[test]
fn without_clone3_the_master_works_and_without_clone_it_says_so() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    for error in ["ENOSYS", "EPERM"] {
        let master = scene
            .master("-n 1 --ready exec")
            .command(["sleep", "1000"])
            .wrapped_in(fault::wrapper("clone3", error))
            .start();
        master.ctl("upgrade").succeeded();
        master.stop();
    }
    let refused = scene
        .master("-n 1 --ready exec -q")
        .command(["sleep", "1000"])
        .wrapped_in(fault::wrapper("clone,clone3,fork,vfork", "EPERM"))
        .run();
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    refused.failed(111, &["Operation not permitted"]);
    processes.gone();
}

/// A worker that leaves a process in its group, and a shell that did not exec.
const FAMILY: &str = "sleep 1001 & sleep 1000; exit $?";

/// What makes a master without a /proc of its own: there is none, or that of the namespace outside.
const WITHOUT_PROC: [(&str, &[&str]); 2] = [
    (
        "none",
        &[
            "unshare",
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs none /proc || exit 77; exec \"$@\"",
            "sh",
        ],
    ),
    ("another's", &["unshare", "-pf", "--kill-child"]),
];

#[test]
fn r57_without_a_proc_of_its_own_groups_end_all_the_same() {
    if !is_root() || !is_there("unshare") {
        return skip("only root, with unshare, can take /proc away");
    }
    for (how, wrapper) in WITHOUT_PROC {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        scene.app(FAMILY);
        let mut master = scene
            .master("-n 1 --ready delay=10ms --graceful-timeout 1s --quick-timeout 1s")
            .wrapped_in(wrapper)
            .spawn();
        let begun = until("it runs, or cannot", || {
            if scene.path("app.ctl").exists() {
                return Some(true);
            }
            (!process::alive(master.pid())).then_some(false)
        });
        if !begun {
            unavailable("this system lets us take no /proc away");
            continue;
        }
        // The pid file may tell of another namespace: the control socket is asked.
        let ctl = |verb: &str| {
            let done = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
                .args([verb.as_ref(), scene.path("app.ctl").as_os_str()])
                .output()
                .expect("pf-ctl");
            assert!(done.status.success(), "{how}: {done:?}\n{}", master.log());
        };
        master.until("ready", |status| status["workers"]["ready"] == 1);
        let app = until("all of the family is there", || {
            let all = processes.all();
            let sleeps: Vec<i32> = all
                .into_iter()
                .filter(|pid| process::name(*pid) == "sleep")
                .collect();
            (sleeps.len() == 2).then_some(sleeps)
        });
        ctl("reload");
        app.into_iter().for_each(process::gone);
        ctl("stop");
        assert_eq!(master.end(), Some(0), "{how}");
        processes.gone();
    }
}
