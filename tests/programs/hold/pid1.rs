//! As pid 1 of a pid namespace, which is what a container's first process is.

use std::process::Command;

use nix::sys::signal::Signal;

use super::support;
use crate::common::namespace::{NAMESPACE, permitted};
use crate::common::running::{Running, pf_listen};
use crate::common::service::process::{self, descendants};
use crate::common::service::scene_processes::{SceneProcesses, children};
use crate::common::service::{Scene, until};

/// A holder as pid 1, of bash with this script.
fn start(script: &str) -> Running {
    let mut command = Command::new(NAMESPACE[0]);
    command.args(&NAMESPACE[1..]).arg(pf_listen());
    command.args(["--hold", "127.0.0.1:0", "--", "bash", "-c", script]);
    Running::start(command)
}

/// Its number out here.
#[track_caller]
fn holder(running: &Running) -> i32 {
    until("the namespace's pid 1", || {
        children(support::pid(running)).first().copied()
    })
}

#[test]
fn u7_the_holder_reaps_orphans() {
    if !permitted() {
        return;
    }
    let script = "for i in {1..200}; do (: &); done; (sleep 0.3 &); echo $$ $PPID; exec sleep 1000";
    let mut running = start(script);
    assert_eq!(running.line(), "2 1");
    let holder = holder(&running);
    let alone = || {
        let family = descendants(holder);
        (family.len() == 1 && family[0].1 != 'Z').then_some(family[0].0)
    };
    let command = until("COMMAND alone is left", alone);
    process::signal(command, Signal::SIGKILL);
    assert!(running.line().ends_with(" 1"));
    until("the next one alone is left", alone);
}

#[test]
fn p10_pid_1_exits_with_a_code_for_a_signal() {
    if !permitted() {
        return;
    }
    let mut running = start("echo up; exec sleep 1000");
    assert_eq!(running.line(), "up");
    let holder = holder(&running);
    until("it is executed", || {
        let command = *children(holder).first()?;
        (process::name(command) == "sleep").then_some(())
    });
    process::signal(holder, Signal::SIGTERM);
    let (status, errors) = running.end();
    assert_eq!(status.code(), Some(128 + 15), "{errors}");
}

#[test]
fn r52_a_container_outlives_its_master() {
    if !permitted() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let wrapper = NAMESPACE
        .into_iter()
        .chain([pf_listen(), "--hold", "127.0.0.1:0", "--"]);
    let mut unshare = scene
        .master("-n 2 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    let holder = until("the namespace's pid 1", || {
        children(unshare.pid()).first().copied()
    });
    let before = unshare.status();
    assert_eq!(before["pid"], 2);
    let master = children(holder)[0];
    process::signal(master, Signal::SIGKILL);
    process::gone(master);
    unshare.ctl("wait --ready").succeeded();
    let after = unshare.status();
    assert_ne!(after["pid"], 2);
    assert_eq!(
        after["listeners"][0]["address"],
        before["listeners"][0]["address"]
    );
    process::signal(holder, Signal::SIGTERM);
    assert_eq!(unshare.end(), Some(0), "{}", unshare.log());
    processes.gone();
}
