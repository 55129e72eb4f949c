//! Events go on through both upgrades: one sequence, from both masters.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Followed, assert_gapless, is, small};
use crate::common::service::{Control, Scene, until};

fn done_of(generation: u64) -> impl Fn(&Value) -> bool {
    move |event| is(event, "rollout-done") && event["to"] == generation
}

#[test]
fn a_reload_and_both_upgrades_are_one_sequence_for_those_who_follow() {
    let scene = Scene::new();
    let mut master = small(&scene, 2);
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    let mut by_hand = master.control();
    by_hand.request(&json!({"cmd": "events", "since": 0, "id": "x"}));
    for (verb, generation) in [
        ("reload", 2),
        ("upgrade", 3),
        ("upgrade --fork", 4),
        ("upgrade", 5),
        ("upgrade --fork", 6),
        ("reload", 7),
    ] {
        super::ctl(&scene, verb).succeeded();
        let events = followed.until(verb, done_of(generation));
        assert_gapless(&events);
        let of_this = |event: &&Value| event["to"] == generation;
        let told: Vec<&Value> = events.iter().filter(of_this).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(is(told[0], "rollout-started") && told[0]["op"] == told[1]["op"]);
        assert!(
            told.iter().all(|it| it["from"] == generation - 1),
            "{told:?}"
        );
    }
    assert_eq!(master.end(), Some(0));
    // A connection follows through an upgrade in place, and is sent away by an old master.
    let mut seen = 0;
    let end = loop {
        let line = by_hand.line().expect("a line");
        let Some(number) = line["seq"].as_u64() else {
            break line;
        };
        assert!(number == seen + 1 || is(&line, "following"), "{line}");
        assert_eq!(line["id"], "x");
        seen = number;
    };
    assert_eq!(
        (&end["error"]["code"], &end["id"]),
        (&json!("moved"), &json!("x"))
    );
    // All of it is still there for one who comes late.
    let all = Followed::since(&scene, 0).until("all", done_of(7));
    assert_gapless(&all);
    assert_eq!(all[0]["seq"], 1);
    super::ctl(&scene, "stop").succeeded();
    let (code, events) = followed.end();
    assert_eq!(code, Some(0));
    assert_gapless(&events);
    assert_eq!(
        events.iter().filter(|event| is(event, "stopping")).count(),
        1
    );
}

#[test]
fn both_masters_tell_the_same_and_a_rollback_goes_on_with_it() {
    let scene = Scene::new();
    let mut master = small(&scene, 2);
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    super::ctl(&scene, "upgrade --fork --manual").succeeded();
    let events = followed.until("both serve", done_of(2));
    let until_now = events.last().expect("an event")["seq"].as_u64();
    let at = |name: &str| -> Vec<Value> {
        let mut control = Control::connect(&scene.path(name)).expect("a master");
        control.request(&json!({"cmd": "events", "since": 0}));
        let mut told = Vec::new();
        assert_eq!(control.line().expect("a line")["event"], "following");
        while told.last().map(|last: &Value| last["seq"].as_u64()) != Some(until_now) {
            told.push(control.line().expect("an event"));
        }
        told
    };
    assert_eq!(at("app.ctl"), at("app.pid.oldbin.ctl"));
    assert_eq!(at("app.ctl"), events);
    // One who follows at the new master that is killed then goes on with the old one.
    let pid = Control::connect(&scene.path("app.ctl"))
        .expect("a master")
        .status()["pid"]
        .clone();
    let at_new = Followed::since(&scene, 0);
    at_new.until("it follows", done_of(2));
    let pid = i32::try_from(pid.as_i64().expect("a pid")).expect("a pid");
    crate::common::service::process::signal(pid, Signal::SIGKILL);
    until("the old master has its names again", || {
        (!scene.path("app.pid.oldbin").exists()).then_some(())
    });
    super::ctl(&scene, "reload").succeeded();
    at_new.until("the reload", done_of(3));
    super::ctl(&scene, "stop").succeeded();
    assert_eq!(master.end(), Some(0));
    let (code, events) = at_new.end();
    assert_eq!(code, Some(0), "{events:?}");
    assert_gapless(&events);
    let (code, same) = followed.end();
    assert_eq!((code, same.len()), (Some(0), events.len()));
    assert_gapless(&same);
}

#[test]
fn an_old_master_that_is_killed_takes_no_event_with_it() {
    let scene = Scene::new();
    let mut master = small(&scene, 2);
    super::ctl(&scene, "upgrade --fork --manual").succeeded();
    let followed = Followed::since(&scene, 0);
    followed.until("both serve", done_of(2));
    master.signal(Signal::SIGKILL);
    master.status_at_end();
    until("the new master is alone", || {
        (!scene.path("app.pid.oldbin").exists()).then_some(())
    });
    super::ctl(&scene, "scale 3").succeeded();
    super::ctl(&scene, "stop").succeeded();
    let (code, events) = followed.end();
    assert_eq!(code, Some(0), "{events:?}");
    assert_gapless(&events);
    assert!(events.iter().any(|event| is(event, "scaled")), "{events:?}");
}
