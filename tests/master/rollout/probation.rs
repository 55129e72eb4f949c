//! `--probation`: a rollout whose workers are all ready is still rolled back, with all its changes.

use serde_json::json;

use crate::common::service::{Master, Scene};

/// Ready, and dead by itself as soon as its slot's door is opened.
const DOOMED: &str = r#"say "v2 A=${A-none}"; up; read x <"$PF_TEST_DOOR$PF_WORKER"; exit 0"#;

const SOUND: &str = r#"say "v1 A=${A-none}"; up; rest"#;

fn start(scene: &Scene, options: &str) -> Master {
    scene.app(SOUND);
    let master = scene
        .master(&format!("-n 2 --ready fd=9 --backoff 1ms..2ms {options}"))
        .start();
    scene.reports("v1 A=none", 2);
    master
}

fn on_probation(master: &Master, generation: u64) {
    master.until("on probation", |status| {
        status["state"] == "running"
            && status["generation"] == generation
            && status["rollout"]["result"] == "running"
    });
}

#[test]
fn a_death_on_probation_rolls_back() {
    let scene = Scene::new();
    let master = start(&scene, "--probation 1h");
    let old = scene.path("old").display().to_string();
    scene.script("old", SOUND);
    // A generation whose program stays where it is, so that it can come back.
    let mut begun = master.start_ctl(&format!("reload -- sh {old}"));
    on_probation(&master, 2);
    assert!(begun.runs());
    master.ctl("rollback").succeeded();
    begun.end().failed(1, &["rollback"]);
    let first: Vec<u64> = generations(&master);
    assert_eq!(first, [1, 1]);
    scene.reports("v1 A=none", 4);

    scene.script("doomed", DOOMED);
    let doomed = scene.path("doomed").display().to_string();
    let mut begun = master.start_ctl(&format!("reload --set A=2 -- sh {doomed}"));
    scene.reports("v2 A=2", 2);
    on_probation(&master, 3);
    assert!(begun.runs());
    // It serves; another rollout is refused meanwhile, and the error names the way out.
    master.ctl("wait --ready").succeeded();
    assert_eq!(master.status()["changes"]["set"], json!({"A": "2"}));
    master.ctl("reload").failed(6, &["probation", "rollback"]);
    master.ctl("restart-worker 0").failed(6, &["probation"]);
    master.ctl("scale 2").succeeded();

    scene.open_door(1);
    begun.end().failed(
        1,
        &[
            "slot 1: worker",
            "exited with code 0",
            "within its probation of 60m",
        ],
    );
    scene.reports("v1 A=none", 2);
    let status = master.status();
    assert_eq!(generations(&master), [1, 1]);
    assert_eq!(status["rollout"]["result"], "rolled-back");
    assert_eq!(status["changes"], json!({}));
    let op = status["rollout"]["op"].as_str().expect("a word");
    assert_eq!(master.ctl(&format!("wait --op {op}")).code, Some(1));
    assert_eq!(scene.unread_reports(), []);
    master.stop();
}

#[test]
fn a_rollout_is_done_after_probation() {
    let scene = Scene::new();
    let master = start(&scene, "--probation 300ms");
    let reload = master.ctl("reload --set A=2").succeeded();
    assert!(
        reload.stderr.contains("on probation for 300ms"),
        "{reload:?}"
    );
    scene.reports("v1 A=2", 2);
    let status = master.status();
    assert_eq!(status["rollout"]["result"], "done");
    assert!(
        status["rollout"]["took_s"].as_f64() >= Some(0.3),
        "{status}"
    );
    // A rollback has no probation: the caller has already chosen the better generation.
    let rollback = master.ctl("rollback").succeeded();
    assert!(!rollback.stderr.contains("probation"), "{rollback:?}");
    assert_eq!(generations(&master), [3, 3]);
    master.stop();
}

#[test]
fn a_missed_heartbeat_on_probation_rolls_back() {
    let scene = Scene::new();
    let master = start(&scene, "--probation 1h --timeout 300ms");
    scene.script("hangs", "helper beat; up; rest");
    let hangs = scene.path("hangs").display().to_string();
    master.ctl(&format!("reload -- sh {hangs}")).failed(
        1,
        &[
            "no heartbeat",
            "the timeout is 300ms",
            "within its probation",
        ],
    );
    scene.reports("v1 A=none", 2);
    assert_eq!(generations(&master), [1, 1]);
    master.stop();
}

fn generations(master: &Master) -> Vec<u64> {
    let status = master.status();
    let slots = status["slots"].as_array().expect("slots").iter();
    slots
        .map(|slot| slot["generation"].as_u64().unwrap_or(0))
        .collect()
}
