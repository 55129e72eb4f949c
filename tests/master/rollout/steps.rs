//! Rollouts: how many workers there are at each step, and what may be done meanwhile.

use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;
use serde_json::Value;

use crate::common::service::master::pids;
use crate::common::service::process::{alive, gone, signal};
use crate::common::service::scene::{GATED, RESTING, Report};
use crate::common::service::{Master, Scene};

/// A service of this many resting workers, whose next generation waits at its doors.
fn gated(scene: &Scene, options: &str, slots: usize) -> Master {
    let master = scene
        .master(&format!("-n {slots} --ready fd=9 {options}"))
        .start();
    scene.reports("up", slots);
    scene.app(GATED);
    master
}

fn slots(reports: &[Report]) -> Vec<u32> {
    reports.iter().map(|report| report.slot).collect()
}

fn generations(status: &Value) -> Vec<u64> {
    let slots = status["slots"].as_array().expect("slots");
    slots
        .iter()
        .map(|slot| slot["generation"].as_u64().unwrap_or(0))
        .collect()
}

fn count(status: &Value, list: &str) -> usize {
    status[list].as_array().expect("a list").len()
}

#[test]
fn surge_1_replaces_workers_one_by_one() {
    let scene = Scene::new();
    let master = gated(&scene, "", 3);
    let old = master.workers();
    let reload = master.start_ctl("reload");
    for slot in 0..3 {
        assert_eq!(scene.report("up").slot, slot);
        let status = master.until("the one before is told", |status| {
            count(status, "retiring") == 0
        });
        assert_eq!(
            (&status["state"], &status["generation"]),
            (&"rolling".into(), &1.into())
        );
        assert_eq!(
            (count(&status, "starting"), &status["workers"]["ready"]),
            (1, &3.into())
        );
        assert_eq!(
            generations(&status),
            (0..3)
                .map(|other| if other < slot { 2 } else { 1 })
                .collect::<Vec<_>>()
        );
        assert_eq!(scene.unread_reports(), [], "no other worker is started");
        assert!(old[slot as usize..].iter().all(|pid| alive(*pid)));
        scene.open_door(slot);
    }
    reload.end().succeeded();
    let status = master.status();
    assert_eq!(
        (generations(&status), &status["generation"]),
        (vec![2, 2, 2], &2.into())
    );
    old.into_iter().for_each(gone);
}

#[test]
fn surge_2_starts_two_at_once() {
    let scene = Scene::new();
    let master = gated(&scene, "--surge 2", 3);
    let reload = master.start_ctl("reload");
    assert_eq!(slots(&scene.reports("up", 2)), [0, 1]);
    assert_eq!(count(&master.status(), "starting"), 2);
    assert_eq!(scene.unread_reports(), []);
    scene.open_door(1);
    assert_eq!(scene.report("up").slot, 2);
    let status = master.until("one is through", |status| count(status, "retiring") == 0);
    assert_eq!(
        (generations(&status), count(&status, "starting")),
        (vec![1, 2, 1], 2)
    );
    scene.open_door(0);
    scene.open_door(2);
    reload.end().succeeded();
}

#[test]
fn surge_100_percent_retires_none_before_all_are_ready() {
    let scene = Scene::new();
    let master = gated(&scene, "--surge 100%", 3);
    let old = master.workers();
    let reload = master.start_ctl("reload");
    assert_eq!(slots(&scene.reports("up", 3)), [0, 1, 2]);
    for slot in [2, 0] {
        scene.open_door(slot);
        master.until("it is ready", |status| {
            let all = status["starting"].as_array().expect("a list");
            all.iter()
                .any(|worker| worker["slot"] == slot && worker["state"] == "ready")
        });
        let status = master.status();
        assert_eq!(
            (
                pids(&status["slots"]),
                count(&status, "retiring"),
                count(&status, "starting")
            ),
            (old.clone(), 0, 3)
        );
    }
    scene.open_door(1);
    reload.end().succeeded();
    old.into_iter().for_each(gone);
}

#[test]
fn surge_0_retires_first_then_starts() {
    let scene = Scene::new();
    let master = gated(&scene, "--surge 0", 3);
    let old = master.workers();
    let reload = master.start_ctl("reload");
    for slot in 0..3_u32 {
        assert_eq!(scene.report("up").slot, slot);
        assert!(!alive(old[slot as usize]), "they cannot coexist");
        let status = master.status();
        assert_eq!(
            (
                count(&status, "starting"),
                count(&status, "retiring"),
                &status["workers"]["ready"]
            ),
            (0, 0, &2.into())
        );
        assert_eq!(scene.unread_reports(), []);
        scene.open_door(slot);
    }
    reload.end().succeeded();
    assert_eq!(master.status()["workers"]["ready"], 3);
}

#[test]
fn surge_bounds_starting_and_ready_workers_at_all_times() {
    for (surge, extra, missing) in [("1", 1, 0), ("50%", 2, 0), ("100%", 4, 0), ("0", 0, 1)] {
        let scene = Scene::new();
        let master = scene
            .master(&format!("-n 4 --ready fd=9 --surge {surge}"))
            .start();
        let mut control = master.control();
        for _ in 0..4 {
            let mut reload = master.start_ctl("reload");
            while reload.runs() {
                let status = control.status();
                let held = pids(&status["slots"])
                    .iter()
                    .filter(|pid| **pid != 0)
                    .count();
                let all = held + count(&status, "starting");
                assert!(all <= 4 + extra, "surge {surge}: {status:#}");
                assert!(
                    status["workers"]["ready"].as_u64() >= Some(4 - missing),
                    "surge {surge}: {status:#}"
                );
                if surge == "0" {
                    assert!(all + count(&status, "retiring") <= 4, "{status:#}");
                }
            }
            reload.end().succeeded();
        }
        assert_eq!(control.status()["generation"], 5);
    }
}

#[test]
fn a_canary_delays_the_rollout_and_crashes_refill_old() {
    let scene = Scene::new();
    let master = gated(&scene, "--canary 5s --backoff 1ms..1ms", 3);
    scene.app(RESTING);
    let old = master.workers();
    let begun = clock::now();
    let reload = master.start_ctl("reload");
    let canary = scene.report("up");
    assert_eq!((canary.slot, canary.generation), (0, 2));
    signal(old[2], Signal::SIGKILL);
    let filled = scene.report("up");
    assert_eq!(
        (filled.slot, filled.generation),
        (2, 1),
        "still from the old one"
    );
    let next = scene.report("up");
    assert_eq!((next.slot, next.generation), (1, 2));
    let waited = clock::now().since(begun);
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    reload.end().succeeded();
    assert_eq!(generations(&master.status()), [2, 2, 2]);
}

#[test]
fn a_rollback_in_the_middle_brings_the_old_generation_back() {
    let scene = Scene::new();
    let master = gated(&scene, "", 3);
    let old = master.workers();
    let reload = master.start_ctl("reload");
    let first = scene.report("up");
    scene.open_door(0);
    let second = scene.report("up");
    assert_eq!(
        (first.generation, second.slot, second.generation),
        (2, 1, 2)
    );

    scene.app(RESTING);
    let rollback = master.start_ctl("rollback");
    let back = scene.report("up");
    assert_eq!(
        (back.slot, back.generation),
        (0, 1),
        "of the generation that was pinned"
    );
    rollback.end().succeeded();
    reload.end().failed(1, &["rollback"]);
    let status = master.status();
    assert_eq!(
        (generations(&status), &status["generation"]),
        (vec![1, 1, 1], &1.into())
    );
    assert_eq!(pids(&status["slots"])[1..], old[1..]);
    gone(second.pid);
    assert_eq!(
        (&status["rollout"]["result"], &status["rollout"]["kind"]),
        (&"rolled-back".into(), &"reload".into())
    );
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["generation"], 3);
    master.stop();
}

#[test]
fn u11_scaling_works_in_a_rollout_and_lasts() {
    let scene = Scene::new();
    let master = gated(&scene, "", 2);
    let reload = master.start_ctl("reload");
    assert_eq!(scene.report("up").slot, 0);
    let scale = master.start_ctl("scale 3");
    let added = scene.report("up");
    assert_eq!((added.slot, added.generation), (2, 2));
    scene.open_door(2);
    scale.end().succeeded();
    scene.open_door(0);
    assert_eq!(scene.report("up").slot, 1);
    scene.open_door(1);
    reload.end().succeeded();
    scene.app(RESTING);
    master.ctl("reload --set A=1").succeeded();
    assert_eq!(generations(&master.status()), [3, 3, 3]);
    master.ctl("scale -2").succeeded();
    assert_eq!(generations(&master.status()), [3]);
    master.ctl("scale 0").succeeded();
    master.ctl("scale +2").succeeded();
    master.ctl("rollback").succeeded();
    assert_eq!(generations(&master.status()), [4, 4]);
    master.stop();
}

#[test]
fn a_scale_whose_workers_fail_is_undone() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9 --backoff 1ms..1ms").start();
    let old = master.workers();
    scene.app("exit 9");
    master
        .ctl("scale 4")
        .failed(1, &["exited with code 9", "3 failed starts", "undone"]);
    let status = master.status();
    assert_eq!(
        (pids(&status["slots"]), &status["workers"]["wanted"]),
        (old, &2.into())
    );
    master.ctl("scale 100000").failed(2, &["100000", "10000"]);
    master.ctl("scale 2").succeeded();
    master.stop();
}

#[test]
fn u12_u13_hup_and_winch_during_a_rollout_follow_it_once() {
    let scene = Scene::new();
    let master = gated(&scene, "", 2);
    let reload = master.start_ctl("reload");
    scene.report("up");
    scene.app(RESTING);
    master.signal(Signal::SIGWINCH);
    master.wait_for_log("WINCH is remembered");
    for _ in 0..3 {
        master.signal(Signal::SIGHUP);
        master.wait_for_log("HUP is remembered");
    }
    assert_eq!(master.status()["generation"], 1);
    scene.open_door(0);
    reload.end().succeeded();
    let status = master.until("paused after another rollout", |status| {
        status["state"] == "paused" && status["workers"]["retiring"] == 0
    });
    assert_eq!(
        status["generation"], 3,
        "once, however often it was asked for"
    );
    let kinds: Vec<&str> = status["operations"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|op| op["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["start", "reload", "reload", "pause"]);
    master.ctl("resume").succeeded();
    assert_eq!(generations(&master.status()), [3, 3]);
    master.stop();
}

#[test]
fn u10_a_stop_ends_a_rollout_where_it_stands() {
    let scene = Scene::new();
    let mut master = gated(&scene, "", 2);
    let reload = master.start_ctl("reload");
    let newcomer = scene.report("up").pid;
    master.ctl("stop").succeeded();
    assert_eq!(master.end(), Some(0));
    assert!(!alive(newcomer));
    let ended = reload.end();
    assert!(matches!(ended.code, Some(1)), "{ended:?}");
    assert!(ended.stderr.contains("told to stop"), "{ended:?}");
}
