//! What is refused while something else is under way, what works always, and what waits.

use serde_json::json;

use crate::common::service::Scene;
use crate::common::service::scene::{GATED, RESTING};

#[test]
fn requests_that_collide_with_a_rollout_are_refused() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9").start();
    scene.reports("up", 2);
    scene.app(GATED);
    let id = master.ctl("reload --no-wait").succeeded().stdout;
    let op = id.trim_end();
    assert!(op.starts_with("2-"), "{op}");
    scene.report("up");
    for verb in ["reload", "pause", "restart-worker 0"] {
        master
            .ctl(verb)
            .failed(6, &[&format!("operation {op} (reload) is under way")]);
    }
    // These work always.
    master.ctl("reopen").succeeded();
    master.ctl("signal CONT --workers").succeeded();
    master.ctl("listeners").succeeded();
    master.ctl("resume").succeeded();
    master.ctl("scale 2").succeeded();
    master
        .ctl(&format!("wait --op {op} --timeout 50ms"))
        .failed(5, &["not finished after 50ms"]);
    let status = master.status();
    assert_eq!(
        (&status["rollout"]["result"], &status["rollout"]["op"]),
        (&json!("running"), &json!(op))
    );

    let wait = master.start_ctl(&format!("wait --op {op}"));
    let ready = master.start_ctl("wait --ready");
    scene.open_door(0);
    scene.open_door(1);
    wait.end().succeeded();
    ready.end().succeeded();
    master.ctl(&format!("wait --op {op}")).succeeded();
    master.ctl("wait --op 4711").failed(6, &["4711"]);
    // A word of another master: that one has died.
    master.ctl("wait --op 2-zzz").failed(3, &["2-zzz"]);
    master.stop();
}

#[test]
fn requests_that_collide_with_a_worker_restart_are_refused() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9 --surge 2").start();
    let old = master.workers();
    scene.reports("up", 2);
    scene.app(GATED);
    let first = master.start_ctl("restart-worker 1");
    assert_eq!(scene.report("up").slot, 1);
    for verb in ["reload", "pause", "rollback"] {
        master
            .ctl(verb)
            .failed(6, &["restart-worker", "is under way"]);
    }
    master
        .ctl("restart-worker 1")
        .failed(6, &["slot 1 is being restarted"]);
    master
        .ctl("restart-worker 2")
        .failed(6, &["there is no slot 2"]);
    // Another slot's may go beside it.
    let second = master.start_ctl("restart-worker 0");
    assert_eq!(scene.report("up").slot, 0);
    assert_eq!(master.workers(), old, "until the new ones are ready");
    scene.open_door(0);
    second.end().succeeded();
    scene.open_door(1);
    first.end().succeeded();
    let new = master.workers();
    assert!(new[0] != old[0] && new[1] != old[1]);
    assert_eq!(master.status()["generation"], 1);

    scene.app("exit 1");
    master
        .ctl("restart-worker 0")
        .failed(1, &["slot 0", "exited with code 1", "3 failed starts"]);
    assert_eq!(master.workers(), new, "the old one stays");
    master.stop();
}

#[test]
fn requests_without_sense_are_refused() {
    let scene = Scene::new();
    scene.app(GATED);
    let master = scene.master("-n 1 --ready fd=9").spawn();
    scene.report("up");
    master.ctl("rollback").failed(6, &["first rollout"]);
    master
        .ctl("reload")
        .failed(6, &["operation 1-", " (start) is under way"]);
    scene.open_door(0);
    master.ctl("wait --ready").succeeded();
    master.ctl("rollback").failed(6, &["no release before"]);
    scene.app(RESTING);

    master.ctl("pause").succeeded();
    master.ctl("pause").succeeded();
    master.ctl("restart-worker 0").failed(6, &["paused"]);
    master.ctl("scale +1").succeeded();
    assert_eq!(
        master.status()["workers"],
        json!({"wanted": 1, "ready": 1, "starting": 0, "retiring": 0, "backoff": 0})
    );
    master.ctl("pause").succeeded();
    master.ctl("reload").succeeded();
    assert_eq!(
        master.status()["workers"]["ready"],
        1,
        "a rollout ends the pause, with N as it was"
    );
    master.stop();
}

#[test]
fn while_it_stops_everything_but_a_stop_is_refused() {
    let scene = Scene::new();
    scene.app("play 'catch stubborn ready'");
    let mut master = scene.master("-n 1 --ready notify").start();
    let stop = master.start_ctl("stop");
    scene.report("got TERM");
    for verb in [
        "reload",
        "scale 3",
        "pause",
        "resume",
        "rollback",
        "restart-worker 0",
    ] {
        master.ctl(verb).failed(6, &["the service is stopping"]);
    }
    master.signal(nix::sys::signal::Signal::SIGHUP);
    master.wait_for_log("HUP ignored: the service is stopping");
    // A second, harder one goes through.
    let now = master.start_ctl("stop --now");
    scene.report("got INT");
    master.ctl("signal KILL --workers").succeeded();
    assert_eq!(
        (stop.end().code, now.end().code, master.end()),
        (Some(0), Some(0), Some(0))
    );
}
