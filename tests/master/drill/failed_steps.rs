//! A drill whose steps fail.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::{DRILL, GOOD, OPTIONS, drilled, step};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene};

/// Serves, but the start of slot 0 after so many does this first.
fn after_starts(scene: &Scene, count: u32, then: &str) {
    let starts = scene.path("starts");
    let starts = starts.display();
    scene.app(&format!(
        r#"echo >>"{starts}.$PF_WORKER"
        [ "$PF_WORKER" = 0 ] && [ "$(wc -l <"{starts}.0")" -gt {count} ] && {then}
        {GOOD}"#
    ));
}

/// The operations of this kind, with their results.
fn operations(master: &Master, kind: &str) -> Vec<(String, String)> {
    let status = master.status();
    let all = status["operations"].as_array().expect("a list").iter();
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    all.filter(|it| it["kind"] == kind)
        .map(|it| (word(&it["op"]), word(&it["result"])))
        .collect()
}

#[test]
fn a_reload_that_fails_is_the_drills_own_and_nothing_is_scaled_back() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    after_starts(&scene, 1, "exit 1");
    let master = scene.master(OPTIONS).start();
    let ended = master.ctl(&format!("{DRILL} --json"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
    let reload = step(&document, "reload");
    assert_eq!(reload["result"], "failed", "{reload:#}");
    let failed = operations(&master, "reload");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0].1, "rolled-back");
    assert_eq!(reload["ops"], json!([failed[0].0]));
    assert_eq!(step(&document, "scale")["result"], "not-tried");
    assert_eq!(operations(&master, "scale"), []);
    assert!(!ended.stderr.contains("scaled back"), "{ended:?}");
    master.ctl("stop").succeeded();
}

#[test]
fn the_other_workers_are_not_restarted_after_one_that_failed() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    after_starts(&scene, 2, "exit 1");
    let master = scene.master(OPTIONS).start();
    let document = drilled(&master, 1);
    assert_eq!(step(&document, "reload")["result"], "done");
    let restart = step(&document, "restart-worker");
    assert_eq!(restart["result"], "failed", "{restart:#}");
    let failed = operations(&master, "restart-worker");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(restart["ops"], json!([failed[0].0]));
    // At the start, and at the reload.
    let starts = fs::read_to_string(scene.path("starts.1")).expect("text");
    assert_eq!(starts, "\n\n");
    master.ctl("stop").succeeded();
}

#[test]
fn a_step_in_which_no_load_could_be_made_has_failed() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    fs::create_dir(scene.path("sockets")).expect("a directory");
    symlink("sockets", scene.path("run")).expect("a link");
    let (run, socket) = (scene.path("run"), scene.path("run/app.sock"));
    let run = run.display();
    // A file in place of the directory: whether the service listens cannot be told.
    let switch = format!(r#"ln -s app "{run}.new" && mv -T "{run}.new" "{run}""#);
    after_starts(&scene, 1, &switch);
    let master = scene
        .master("-n 2 --ready notify")
        .option("--listen", format!("local=unix:{}", socket.display()))
        .start();
    let document = drilled(&master, 1);
    let reload = step(&document, "reload");
    assert_eq!(
        (&reload["result"], &document["lost"]),
        (&"failed".into(), &0.into())
    );
    let why = reload["why"].as_str().expect("words");
    for told in ["could not be made", "app.sock", "errno 20"] {
        assert!(why.contains(told), "{why}");
    }
    assert_eq!(step(&document, "kill")["result"], "not-tried");
    master.ctl("stop").succeeded();
}
