//! Limits: an upgrade needs no more descriptors than the service has, and finds out before the exec
//! whether there is enough of everything.

use std::process::Command;

use nix::sys::signal::Signal;

use super::successors::{fails, forged};
use super::{good_successor, upgrades, with_successor};
use crate::common::service::{Scene, process};
use crate::common::support::{is_there, skip};

#[test]
fn an_upgrade_near_the_limit_of_descriptors_is_done_or_refused() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    let wrapper = ["prlimit", "--nofile=48:48"];
    let master = scene
        .master("-n 2 --ready exec")
        .command(["sleep", "1000"])
        .wrapped_in(wrapper)
        .start();
    let (mut done, mut refused) = (0, 0);
    for workers in 2..16 {
        if master.ctl(&format!("scale {workers}")).code != Some(0) {
            break;
        }
        let before = master.status();
        let ended = master.ctl("upgrade");
        let status = master.status();
        assert_eq!(status["pid"], master.pid(), "{}", master.log());
        assert_eq!(status["workers"]["ready"], workers, "{ended:?}");
        match ended.code {
            Some(0) => done += 1,
            Some(1) => {
                refused += 1;
                assert_eq!(status["generation"], before["generation"], "{ended:?}");
            }
            _ => panic!("{ended:?}\n{}", master.log()),
        }
    }
    // More than half of the descriptors were in use, and then nearly all.
    assert!(done >= 4 && refused >= 1, "{done} {refused}");
    assert!(!master.log().contains("panicked"));
    master.stop();
}

#[test]
fn the_check_finds_out_whether_there_is_room() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    let more = forged(
        &scene,
        "s/\"descriptors\":[0-9]*/\"descriptors\":1000000000/",
    );
    fails(
        &scene,
        &master,
        &more,
        &["cannot open 1000000000 descriptors at once", "ulimit -n"],
    );
    let more = forged(
        &scene,
        "s/\"memory\":[0-9]*/\"memory\":9000000000000000000/",
    );
    fails(
        &scene,
        &master,
        &more,
        &["cannot find 9000000000000000000 bytes of memory"],
    );
    good_successor(&scene);
    upgrades(&master);
    master.stop();
}

/// The limit of open files of a process, soft and hard.
fn limits_of(pid: i32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let words = line.expect("the limit is there").split_whitespace();
    words.take(2).map(str::to_owned).collect()
}

#[test]
fn a_hard_limit_that_was_lowered_under_the_master_holds_and_is_told() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready exec")
        .command(["sleep", "1000"])
        .wrapped_in(["prlimit", "--nofile=300:400"])
        .start();
    assert_eq!(limits_of(master.workers()[0]), ["300", "400"]);
    assert_eq!(limits_of(master.pid()), ["400", "400"]);
    let lowered = Command::new("prlimit")
        .arg(format!("--pid={}", master.pid()))
        .arg("--nofile=200:200")
        .status();
    assert!(lowered.expect("prlimit").success());
    let worker = master.workers()[0];
    process::signal(worker, Signal::SIGKILL);
    master.until("replaced", |status| {
        status["workers"]["ready"] == 1 && status["slots"][0]["pid"] != worker
    });
    assert_eq!(limits_of(master.workers()[0]), ["200", "200"]);
    master.wait_for_log("the hard limit of open files was lowered from 400 to 200");
    upgrades(&master);
    assert_eq!(limits_of(master.pid()), ["200", "200"]);
    assert_eq!(limits_of(master.workers()[0]), ["200", "200"]);
    master.stop();
}

#[test]
fn many_workers_start_at_once_where_as_many_fit() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    // Each needs two descriptors, and four until its program is executed.
    let master = scene
        .master("-n 30 --ready exec --surge 100% --start-failures 1")
        .command(["sleep", "1000"])
        .wrapped_in(["prlimit", "--nofile=20:84"])
        .start();
    assert_eq!(master.status()["workers"]["ready"], 30);
    // The ends of leaders are found without a descriptor for each.
    for worker in master.workers().into_iter().step_by(7) {
        process::signal(worker, Signal::SIGKILL);
        master.until("replaced", |status| {
            let slots = status["slots"].as_array().expect("an array");
            status["workers"]["ready"] == 30 && slots.iter().all(|slot| slot["pid"] != worker)
        });
    }
    master.stop();
}

#[test]
fn a_rollout_by_many_at_once_waits_for_what_old_workers_leave() {
    if !is_there("prlimit") {
        return skip("there is no prlimit here");
    }
    let scene = Scene::new();
    let master = scene
        .master("-n 30 --ready exec --surge 8 --start-failures 1")
        .command(["sleep", "1000"])
        .wrapped_in(["prlimit", "--nofile=20:98"])
        .start();
    for _ in 0..3 {
        master.ctl("reload").succeeded();
        upgrades(&master);
    }
    master.stop();
}
