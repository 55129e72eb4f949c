//! No descriptors, processes, space or permissions left. A refusal is one line, a failure is
//! retried, and the service continues once there is enough again (U34, R68).

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::slot;
use crate::common::service::scene_processes::{SceneProcesses, guard_of};
use crate::common::service::{Control, Master, Scene, process, until};
use crate::common::support::{is_root, is_there};
use crate::common::support::{skip, unavailable};

/// Sets a soft limit of a process of this user that runs: `nofile=1`.
#[track_caller]
fn limit(pid: i32, user: Option<u32>, limit: &str) {
    let mut line: Vec<String> = Vec::new();
    if let Some(user) = user {
        // Not every root may do it to others.
        line.extend(become_user(user));
    }
    line.extend([
        "prlimit".to_owned(),
        format!("--pid={pid}"),
        format!("--{limit}:"),
    ]);
    let status = Command::new(&line[0]).args(&line[1..]).status();
    assert!(status.expect("prlimit").success(), "{limit}");
}

/// What executes what follows as this user.
fn become_user(user: u32) -> [String; 4] {
    [
        "setpriv".to_owned(),
        format!("--reuid={user}"),
        format!("--regid={user}"),
        "--clear-groups".to_owned(),
    ]
}

/// Asks for the status on an open connection until it fulfils the condition.
#[track_caller]
fn until_status(control: &mut Control, what: &str, so: impl Fn(&Value) -> bool) -> Value {
    until(what, || Some(control.status()).filter(|status| so(status)))
}

fn is_ready(status: &Value, number: usize) -> bool {
    slot(status, number)["state"] == "ready"
}

/// Options by which a slot is tried again soon, and often.
const SOON: &str =
    "-n 2 --quick-timeout 100ms --ready exec --backoff 20ms..50ms --start-failures 100000";

/// A worker whose group has others in it; the leader alone is killed here.
const FAMILY: &str = "trap '' TERM\nsleep 1000 &\nexec sleep 1001";

#[test]
fn r68_without_descriptors_the_master_serves_on_and_recovers() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app(FAMILY);
    let master = scene.master(SOON).start();
    let mut control = master.control();
    let workers = master.workers();
    let guard = guard_of(master.pid());
    let child = until("the family is there", || {
        process::descendants(workers[0]).first().copied()
    });
    // poll(2) checks RLIMIT_NOFILE against its number of entries; everything else needs a free
    // descriptor.
    limit(master.pid(), None, "nofile=6");

    process::signal(workers[0], Signal::SIGKILL);
    process::signal(guard, Signal::SIGKILL);
    let status = until_status(&mut control, "the slot rests", |status| {
        slot(status, 0)["state"] == "backoff"
            && slot(status, 0)["last_exit"]["cause"] == "spawn-failed"
    });
    assert!(is_ready(&status, 1), "{status:#}");
    assert_eq!(slot(&status, 1)["pid"], workers[1]);
    master.wait_for_log("Too many open files");
    // What the dead leader has left behind is seen to all the same.
    process::gone(child.0);
    // A client that cannot be accepted waits, and costs no processor time.
    let mut waiting = Control::connect(&scene.path("app.ctl")).expect("queued");
    waiting.send("{\"cmd\": \"status\"}\n").expect("sent");
    let tries = || control_refusals(&master);
    until("it is seen", || (tries() > 0).then_some(()));
    for _ in 0..20 {
        control.status();
    }
    assert!(
        tries() < 10,
        "told again and again: {}",
        master.log().lines().count()
    );

    limit(master.pid(), None, "nofile=1024");
    until_status(&mut control, "the slot is ready again", |status| {
        is_ready(status, 0)
    });
    assert_eq!(waiting.reply()["ok"], true);
    let other = until("there is a guard again", || {
        Some(guard_of(master.pid())).filter(|other| *other != guard)
    });
    assert!(process::alive(other));
    assert!(!master.log().contains("panicked"));
    drop((control, waiting));
    master.ctl("stop --now --timeout 60s").succeeded();
    drop(master);
    processes.gone();
}

fn control_refusals(master: &Master) -> usize {
    master
        .log()
        .matches("cannot accept a control client")
        .count()
}

/// Gives the scene to a user that has no other process, with a copy of the master that this user
/// may execute. Returns the user, and the command that executes the copy instead of the binary.
fn as_nobody(scene: &Scene) -> Option<(u32, [String; 4])> {
    if !is_root() || !is_there("setpriv") {
        skip("only root, with setpriv, can become a user without processes");
        return None;
    }
    let program = scene.path("pf-master");
    // Not written by this process: a child that another test forks may inherit the open file, and a
    // file open for writing cannot be executed (ETXTBSY).
    let copied = Command::new("cp")
        .args([
            env!("CARGO_BIN_EXE_pf-master").as_ref(),
            program.as_os_str(),
        ])
        .status();
    assert!(copied.expect("cp").success());
    let user = 100_000 + std::process::id() % 50_000;
    std::os::unix::fs::chown(scene.dir(), Some(user), Some(user)).expect("given");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    };
    mode(scene.dir(), 0o755);
    mode(&program, 0o755);
    let script = format!(
        r#"shift; exec {} "{}" "$@""#,
        become_user(user).join(" "),
        program.display()
    );
    Some((user, ["sh".into(), "-c".into(), script, "sh".into()]))
}

#[test]
fn r68_without_processes_the_master_serves_on_and_recovers() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let Some((user, wrapper)) = as_nobody(&scene) else {
        return;
    };
    let master = scene
        .master(SOON)
        .wrapped_in(wrapper)
        .command(["sleep", "1000"])
        .start();
    let mut control = master.control();
    let workers = master.workers();
    let guard = guard_of(master.pid());
    limit(master.pid(), Some(user), "nproc=1");

    process::signal(workers[0], Signal::SIGKILL);
    let status = until_status(&mut control, "the slot rests", |status| {
        slot(status, 0)["last_exit"]["cause"] == "spawn-failed"
    });
    assert!(is_ready(&status, 1), "{status:#}");
    master.wait_for_log("cannot fork: Resource temporarily unavailable");
    process::signal(guard, Signal::SIGKILL);
    master.wait_for_log("cannot start the guard anew");

    limit(master.pid(), Some(user), "nproc=1000");
    until_status(&mut control, "the slot is ready again", |status| {
        is_ready(status, 0)
    });
    let other = guard_of(master.pid());
    assert_ne!(other, guard);
    drop(control);
    let mut master = master;
    master.signal(Signal::SIGKILL);
    master.end();
    processes.gone();
}

#[test]
fn r68_a_program_without_permission_is_a_failed_start() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let app = scene.path("app");
    let mode = |mode| std::fs::set_permissions(&app, PermissionsExt::from_mode(mode)).expect("set");
    let launch = || scene.master(SOON).command(["./app"]);
    scene.app("rest");
    mode(0o644);
    launch().run().failed(1, &["./app", "Permission denied"]);
    mode(0o755);
    let master = launch().start();
    let workers = master.workers();

    mode(0o644);
    master.ctl("reload").failed(1, &["Permission denied"]);
    assert_eq!(master.workers(), workers);
    assert_eq!(master.status()["generation"], 1);
    process::signal(workers[0], Signal::SIGKILL);
    let status = master.until("cannot be executed", |status| {
        slot(status, 0)["last_exit"]["cause"] == "exec-failed"
    });
    assert!(is_ready(&status, 1));
    master.wait_for_log("cannot execute its program: Permission denied");
    std::fs::remove_file(&app).expect("removed");
    master.wait_for_log("cannot execute its program: No such file");
    scene.app("rest");
    master.until("ready again", |status| is_ready(status, 0));
    master.stop();
    processes.gone();
}

#[test]
fn r68_a_directory_without_write_permission_refuses_the_start() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let closed = scene.path("closed");
    std::fs::create_dir(&closed).expect("made");
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o555)).expect("set");
    let wrapper = if is_root() {
        match as_nobody(&scene) {
            Some((_, wrapper)) => wrapper.to_vec(),
            None => return,
        }
    } else {
        Vec::new()
    };
    for (names, what) in [
        ("--pid closed/app.pid", "closed"),
        ("--pid closed/app.pid --no-control", "closed/app.pid"),
        ("--control closed/app.ctl", "closed"),
        ("--log closed/log", "closed/log"),
        ("--listen unix:closed/app.sock", "closed"),
    ] {
        let ended = scene
            .master("-n 1 --ready exec -q")
            .names(names)
            .wrapped_in(&wrapper)
            .command(["sleep", "1000"])
            .run();
        assert_eq!(ended.stderr.lines().count(), 1, "{names}: {ended:?}");
        ended.failed(111, &[what, "Permission denied"]);
    }
    let left = std::fs::read_dir(&closed).expect("readable").count();
    assert_eq!(left, 0);
    processes.gone();
}

/// Mounts a small file system at `full`, which `filler` fills, in a mount namespace.
const FULL: &str = r#"mkdir -p full && mount -t tmpfs -o size=64k none full || exit 77
[ -z "$LOGGED" ] || : >full/log
dd if=/dev/zero of=full/filler bs=4k 2>/dev/null
exec "$@""#;

fn in_a_full_room() -> Option<[&'static str; 6]> {
    let permitted = is_root() && is_there("unshare");
    if !permitted {
        skip("only root, with unshare, can mount a small file system");
    }
    permitted.then_some(["unshare", "-m", "sh", "-c", FULL, "sh"])
}

#[test]
fn r68_a_full_pid_file_disk_refuses_the_start() {
    let Some(room) = in_a_full_room() else {
        return;
    };
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let ended = scene
        .master("-n 1 --ready exec -q")
        .names("--pid full/app.pid --control app.ctl")
        .wrapped_in(room)
        .command(["sleep", "1000"])
        .run();
    if ended.code == Some(77) {
        return unavailable("this system lets us mount nothing");
    }
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    ended.failed(111, &["full/app.pid", "No space left"]);
    assert!(
        !scene.path("app.ctl").exists(),
        "its control socket is left"
    );
    processes.gone();
}

#[test]
fn r68_a_full_log_disk_is_counted_and_survived() {
    let Some(room) = in_a_full_room() else {
        return;
    };
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 1 --ready exec --log full/log")
        .env("LOGGED", "yes")
        .wrapped_in(room)
        .command(["sleep", "1000"])
        .spawn();
    let begun = until("it runs, or cannot", || {
        if scene.path("app.ctl").exists() {
            return Some(true);
        }
        (!process::alive(master.pid())).then_some(false)
    });
    if !begun {
        return unavailable("this system lets us mount nothing");
    }
    master.ctl("wait --ready --timeout 60s").succeeded();
    for _ in 0..3 {
        master.ctl("reload --timeout 60s").succeeded();
    }
    let lost = master.status()["counters"]["log_lines_lost"].as_u64();
    assert!(lost > Some(3), "{lost:?}");
    // The file system is its own: it is reached through it.
    let room = std::path::PathBuf::from(format!("/proc/{}/root", master.pid()));
    let within = |name: &str| {
        let inside = scene.path(name);
        room.join(inside.strip_prefix("/").expect("absolute"))
    };
    assert_eq!(
        std::fs::read_to_string(within("full/log")).expect("there"),
        ""
    );
    std::fs::remove_file(within("full/filler")).expect("removed");
    master.ctl("reload --timeout 60s").succeeded();
    let log = std::fs::read_to_string(within("full/log")).expect("there");
    assert!(log.contains("reload done: generation 5"), "{log}");
    assert!(log.contains("lost"), "{log}");
    master.stop();
    processes.gone();
}

#[test]
fn u34_a_log_at_its_size_limit_is_survived() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let limited = ["sh", "-c", r#"ulimit -f 16; exec "$@""#, "sh"];
    let master = scene
        .master("-v -n 1 --ready exec --log small.log")
        .wrapped_in(limited)
        .command(["sleep", "1000"])
        .start();
    for _ in 0..20 {
        master.ctl("reload --timeout 60s").succeeded();
    }
    let lost = master.status()["counters"]["log_lines_lost"].as_u64();
    assert!(lost > Some(0), "{lost:?}");
    // A worker gets the default disposition.
    let ignored = process::status(master.workers()[0], "SigIgn");
    assert_eq!(ignored, "0000000000000000");
    master.stop();
    processes.gone();
}
