//! Many events: a reader that keeps up misses none, and one that does not is told how many.

use serde_json::{Value, json};

use super::{Followed, assert_gapless, is, small};
use crate::common::service::Scene;

fn number(event: &Value) -> u64 {
    event["seq"].as_u64().expect("a number")
}

#[test]
fn the_churn_of_a_thousand_workers_is_read_without_a_gap() {
    let scene = Scene::new();
    let master = small(&scene, 0);
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    let mut control = master.control();
    for _ in 0..5 {
        for workers in [200, 0] {
            let reply = control.ask(&json!({"cmd": "scale", "workers": workers}));
            assert_eq!(reply["ok"], true, "{reply}");
        }
    }
    drop(control);
    master.stop();
    let (code, events) = followed.end();
    assert_eq!(code, Some(0));
    assert_gapless(&events);
    for name in [
        "worker-started",
        "worker-ready",
        "worker-retiring",
        "worker-exited",
    ] {
        let count = events.iter().filter(|event| is(event, name)).count();
        assert_eq!(count, 1000, "{name}");
    }
    assert_eq!(
        number(events.last().expect("an event")),
        events.len() as u64
    );
}

#[test]
fn a_client_that_does_not_read_is_told_how_many_it_missed_and_holds_nothing_up() {
    let scene = Scene::new();
    let master = small(&scene, 0);
    let mut slow = master.control();
    slow.request(&json!({"cmd": "events", "since": 0}));
    assert_eq!(slow.line().expect("a line")["event"], "following");
    // Far more than the socket and the master hold for it.
    let mut control = master.control();
    let mut last = 0;
    for _ in 0..8 {
        for workers in [200, 0] {
            let reply = control.ask(&json!({"cmd": "scale", "workers": workers}));
            assert_eq!(reply["ok"], true, "{reply}");
        }
        // The service goes on, and a reader that comes now gets what is new at once.
        let mut other = master.control();
        other.request(&json!({"cmd": "events"}));
        let now = number(&other.line().expect("a line"));
        assert!(now > last);
        last = now;
    }
    let mut seen = 0;
    let mut missed = Vec::new();
    while seen < last {
        let event = slow.line().expect("an event");
        let count = event["count"].as_u64().filter(|_| is(&event, "missed"));
        // The count is that of the events that were left out.
        assert_eq!(number(&event), seen + count.unwrap_or(1), "{event}");
        missed.extend(count);
        seen = number(&event);
    }
    assert_eq!(seen, last);
    assert!(!missed.is_empty(), "{last} events, and all were held");
    let kept = last - missed.iter().sum::<u64>();
    assert!((1000..last).contains(&kept), "{kept} of {last}");
    // It follows again like any other.
    master.ctl("scale 1").succeeded();
    assert_eq!(number(&slow.line().expect("an event")), last + 1);
    master.stop();
}

#[test]
fn older_events_than_are_kept_count_as_missed() {
    let scene = Scene::new();
    let master = small(&scene, 0);
    for workers in [140, 0, 140, 0] {
        master.ctl(&format!("scale {workers}")).succeeded();
    }
    let followed = Followed::since(&scene, 3);
    master.stop();
    let (code, events) = followed.end();
    assert_eq!((code, &events[0]["event"]), (Some(0), &json!("missed")));
    assert_gapless(&events[1..]);
    let count = events[0]["count"].as_u64().expect("a count");
    assert_eq!(number(&events[0]), 3 + count);
    assert_eq!(number(&events[1]), 3 + count + 1);
    // With the stop, which may come before or after it follows, but for the first event.
    assert!(
        (1000..=1001).contains(&(events.len() - 1)),
        "{}",
        events.len()
    );
}
