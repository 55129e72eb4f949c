//! Nothing is written unless requested: a read-only root, a uid without name, no HOME.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Scene, process, until};
use crate::common::support::{is_root, is_there};
use crate::common::support::{skip, unavailable};

/// A user that no system has.
const NOBODY: &str = "--reuid=54321 --regid=54321 --clear-groups";

/// Makes all mounts read-only that can be, in a mount namespace, and becomes a user without name
/// and home.
const READ_ONLY: &str = r#"
while read -r _ at type _; do
    case $type in proc|sysfs|devtmpfs|devpts|mqueue|cgroup*) ;;
    *) mount -o remount,bind,ro "$at" || exit 77;; esac
done </proc/self/mounts
(: >"$HERE/probe") 2>/dev/null && exit 78
(: >/tmp/pf-probe) 2>/dev/null && exit 78
shift
exec setpriv $NOBODY env -i PF_TEST_SAY="$PF_TEST_SAY" PATH="$PATH" "$HERE/pf-master" "$@""#;

fn contents(scene: &Scene) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scene.dir()).expect("a directory");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    names
}

#[test]
fn r38_a_read_only_root_and_an_unknown_uid_suffice() {
    if !is_root() || !is_there("unshare") || !is_there("setpriv") {
        return skip("only root can make everything read-only, with unshare and setpriv");
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // Where the binaries were built others may not be let in.
    let program = scene.path("pf-master");
    // Not written by this process: a child that another test forks may inherit the open file, and a
    // file open for writing cannot be executed (ETXTBSY).
    let copied = std::process::Command::new("cp")
        .args([
            env!("CARGO_BIN_EXE_pf-master").as_ref(),
            program.as_os_str(),
        ])
        .status();
    assert!(copied.expect("cp").success());
    let say = scene.path("say");
    for (path, mode) in [
        (scene.dir(), 0o755),
        (program.as_path(), 0o755),
        (say.as_path(), 0o622),
    ] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    }
    let worker = r#"#!/bin/sh
[ -z "$HOME" ] || exit 3
touch /dev/fd/$PF_HEARTBEAT_FD
echo "born $PF_WORKER $PF_GENERATION $$" >"$PF_TEST_SAY"
exec sleep 1000"#;
    std::fs::write(scene.path("app"), worker).expect("written");
    std::fs::set_permissions(scene.path("app"), PermissionsExt::from_mode(0o644)).expect("set");
    let mut master = scene
        .master("-n 2 --ready auto --timeout 1h --listen 127.0.0.1:0")
        .names("")
        .env("NOBODY", NOBODY)
        .env("HERE", scene.dir())
        .wrapped_in(["unshare", "-m", "sh", "-c", READ_ONLY, "sh"])
        .spawn();
    let before = contents(&scene);
    let code = until("it runs, or cannot", || {
        let log = master.log();
        if log.contains("start done: generation 1, 2 workers ready") {
            return Some(None);
        }
        (!process::alive(master.pid())).then(|| master.end().or(Some(-1)))
    });
    if code == Some(77) {
        return unavailable("the mounts of this system cannot be made read-only");
    }
    assert_eq!(code, None, "{}", master.log());
    let born = scene.reports("born", 2);
    assert_eq!(
        process::status(master.pid(), "Uid"),
        "54321\t54321\t54321\t54321"
    );
    // One more generation, and a worker that dies.
    master.signal(Signal::SIGHUP);
    scene.reports("born", 2);
    master.wait_for_log("reload done: generation 2");
    process::gone(born[0].pid);
    assert_eq!(contents(&scene), before, "nothing is written");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    let log = master.log();
    for word in ["cannot", "panicked", "Read-only", "Permission"] {
        assert!(!log.contains(word), "{log}");
    }
    assert_eq!(contents(&scene), before);
    processes.gone();
}
