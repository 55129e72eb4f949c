//! Which events there are, in which order, and from which one on.

use serde_json::json;

use super::{Followed, assert_gapless, command, is, names, output, small};
use crate::common::service::Scene;
use crate::common::service::control::error;

#[test]
fn a_reload_tells_its_events_in_order() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    let old = master.workers()[0];
    let followed = Followed::since(&scene, 0);
    let start = followed.until("the start is done", |event| is(event, "rollout-done"));
    assert_eq!(
        names(&start),
        [
            "rollout-started",
            "worker-started",
            "worker-ready",
            "rollout-done"
        ]
    );
    assert_eq!(
        (&start[0]["from"], &start[0]["to"]),
        (&json!(null), &json!(1))
    );
    master.ctl("reload").succeeded();
    let new = master.workers()[0];
    let done = |event: &serde_json::Value| is(event, "rollout-done") && event["to"] == 2;
    let events = followed.until("the reload is done", done);
    assert_gapless(&events);
    let reload = &events[4..];
    assert_eq!(
        names(reload),
        [
            "rollout-started",
            "worker-started",
            "worker-ready",
            "worker-retiring",
            "worker-exited",
            "rollout-done"
        ]
    );
    let op = master.status()["rollout"]["op"].clone();
    for (event, pid) in reload
        .iter()
        .zip([None, Some(new), Some(new), Some(old), Some(old), None])
    {
        match pid {
            None => {
                assert_eq!((&event["from"], &event["to"]), (&json!(1), &json!(2)));
                assert_eq!((&event["op"], &event["error"]), (&op, &json!(null)));
            }
            Some(pid) => {
                assert_eq!((&event["slot"], &event["pid"]), (&json!(0), &json!(pid)));
                assert_eq!(event["generation"], if pid == new { 2 } else { 1 });
            }
        }
    }
    let exited = &reload[4];
    assert_eq!(
        (
            &exited["cause"],
            &exited["code"],
            &exited["signal"],
            &exited["output"]
        ),
        (
            &json!("stopped"),
            &json!(null),
            &json!("TERM"),
            &json!(null)
        )
    );
}

#[test]
fn failures_and_changes_of_the_service_are_events() {
    let scene = Scene::new();
    // With a canary: without one, a reload to a command that ends at once may be done before its
    // workers are seen to end.
    let options = "-n 1 --ready exec --canary 30s --backoff 1ms..2ms";
    let master = scene.master(options).command(["sleep", "1000"]).start();
    let followed = Followed::with(&scene, &["--since", "4"]);
    master.ctl("scale 2").succeeded();
    master.ctl("pause").succeeded();
    master.ctl("resume").succeeded();
    master.ctl("reload -- false").failed(1, &[]);
    master.ctl("reload -- ./none").failed(1, &["./none"]);
    let no_pin = |event: &serde_json::Value| is(event, "rollout-failed") && event["to"].is_null();
    let events = followed.until("the pin failed", no_pin);
    assert_gapless(&events);
    let find = |name| events.iter().find(|event| is(event, name)).expect(name);
    assert_eq!(find("scaled")["to"], 2);
    assert_eq!(find("resumed")["workers"], 2);
    assert!(find("paused")["seq"].as_u64() < find("resumed")["seq"].as_u64());
    let failed = find("rollout-failed");
    assert_eq!((&failed["from"], &failed["to"]), (&json!(1), &json!(2)));
    let text = failed["error"].as_str().expect("an error");
    assert!(text.contains("exited with code 1"), "{text}");
    let died = |event: &&serde_json::Value| is(event, "worker-exited") && event["code"] == 1;
    let died = events.iter().find(died).expect("a death");
    assert_eq!(
        (&died["cause"], &died["generation"]),
        (&json!("exited"), &json!(2))
    );
    let last = events.last().expect("an event");
    assert!(
        last["error"].as_str().expect("an error").contains("./none"),
        "{last}"
    );
    assert_eq!(last["from"], 1);
}

#[test]
fn since_begins_after_an_event_and_one_to_come_is_refused() {
    let scene = Scene::new();
    let master = small(&scene, 1);
    let mut control = master.control();
    // Only what is new; and the id is in every line.
    control.request(&json!({"cmd": "events", "id": 7}));
    let first = control.line().expect("a line");
    assert_eq!(
        (&first["event"], &first["seq"]),
        (&json!("following"), &json!(4))
    );
    assert_eq!(first["id"], 7);
    // The connection still answers, also in between.
    assert_eq!(control.ask(&json!({"cmd": "events", "id": 8}))["ok"], false);
    assert_eq!(control.status()["generation"], 1);
    master.ctl("scale 2").succeeded();
    for number in 5..=7 {
        let line = control.line().expect("a line");
        assert_eq!((&line["seq"], &line["id"]), (&json!(number), &json!(7)));
    }

    let log = first["log"].as_str().expect("a word");
    let mut control = master.control();
    control.request(&json!({"cmd": "events", "since": 5, "log": log}));
    assert_eq!(control.line().expect("a line")["event"], "following");
    assert_eq!(control.line().expect("a line")["seq"], 6);
    let other = master
        .control()
        .ask(&json!({"cmd": "events", "since": 5, "log": "0"}));
    assert_eq!(error(&other).0, "master-died");
    let ended = output(&mut command(&scene.path("app.pid"), &["--since", "9"]));
    ended.failed(6, &["there is no event 9 yet: the last one is 7"]);
}
