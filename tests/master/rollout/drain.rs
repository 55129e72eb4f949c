//! Old workers finish their connections: no command waits longer than needed, and no request is
//! lost.

use std::time::Duration;

use prefork::sys::machine::clock;

use crate::common::service::Scene;
use crate::common::service::master::{Client, address, pids};
use crate::common::service::process::{alive, gone};

const OPTIONS: &str = "--listen 127.0.0.1:0 --ready notify";

#[test]
fn u33_a_long_connection_delays_no_reload_and_ends_whole() {
    let scene = Scene::new();
    scene.app("play serve");
    let master = scene.master(&format!("-n 1 {OPTIONS}")).start();
    let old = master.workers()[0];
    let mut client = master.dial();
    assert_eq!(client.ask(), (0, 1, old));
    for generation in 2..5 {
        let said = master.ctl("reload").succeeded().stderr;
        assert!(!said.contains("still holds"), "{said}");
        assert_eq!(master.dial().ask(), (0, generation, master.workers()[0]));
        assert_eq!(client.ask(), (0, 1, old));
    }
    let status = master.status();
    assert_eq!(
        (&status["state"], pids(&status["retiring"])),
        (&"running".into(), vec![old])
    );
    assert_eq!(status["retiring"][0]["state"], "stopping");
    drop(client);
    gone(old);
    master.until("no worker retires", |status| {
        status["workers"]["retiring"] == 0
    });
    master.stop();
}

#[test]
fn an_old_worker_that_keeps_its_listener_warns_once() {
    let scene = Scene::new();
    scene.app("play 'serve keep'");
    let master = scene.master(&format!("-n 1 {OPTIONS}")).start();
    let mut client = master.dial();
    let (_, _, old) = client.ask();
    let begun = clock::now();
    let said = master.ctl("reload").succeeded().stderr;
    let took = clock::now().since(begun);
    assert!(
        (Duration::from_millis(4900)..Duration::from_secs(60)).contains(&took),
        "{took:?}"
    );
    assert!(
        said.contains("still holds a listener after 5s") && said.contains(&old.to_string()),
        "{said}"
    );
    // What drains for an hour does not hold up every rollout of that hour.
    let said = master.ctl("reload").succeeded().stderr;
    assert!(!said.contains("still holds"), "{said}");
    assert!(alive(old));
    assert_eq!(client.ask().2, old);
}

#[test]
fn stopping_1_ends_the_wait_for_its_listener() {
    let scene = Scene::new();
    scene.app("play 'serve keep stopping'");
    let master = scene.master(&format!("-n 1 {OPTIONS}")).start();
    let mut client = master.dial();
    let (_, _, old) = client.ask();
    let said = master.ctl("reload").succeeded().stderr;
    assert!(!said.contains("still holds"), "{said}");
    assert!(alive(old));
    drop(client);
    gone(old);
}

#[test]
fn u10_a_drain_has_its_time_then_kill() {
    let scene = Scene::new();
    scene.app("play serve");
    let master = scene
        .master(&format!("-n 1 {OPTIONS} --graceful-timeout 300ms"))
        .start();
    let mut client = master.dial();
    let (_, _, old) = client.ask();
    master.ctl("reload").succeeded();
    gone(old);
    master.wait_for_log("is not gone after 300ms: killed");
    let status = master.until("it is reaped", |status| {
        status["slots"][0]["last_exit"] != serde_json::json!(null)
    });
    assert_eq!(
        (
            &status["slots"][0]["last_exit"]["cause"],
            &status["counters"]["killed"]
        ),
        (&"killed-graceful-timeout".into(), &1.into())
    );
    master.stop();
}

#[test]
fn s1_no_connection_is_lost_while_workers_are_replaced() {
    let scene = Scene::new();
    scene.app("play serve");
    let master = scene.master(&format!("-n 2 {OPTIONS}")).start();
    let address = address(&master.status(), 0);
    let mut asked = 0;
    while asked < 20 {
        for verb in [
            "reload --set RELEASE=2",
            "restart-worker 0",
            "scale 3",
            "reload",
            "scale 1",
            "rollback",
            "reload",
        ] {
            let mut ctl = master.start_ctl(verb);
            while ctl.runs() {
                Client::dial(address).ask();
                asked += 1;
            }
            ctl.end().succeeded();
        }
    }
    // Paused, clients queue: nothing is refused.
    master.ctl("pause").succeeded();
    let mut early = Client::dial(address);
    let resume = master.start_ctl("resume");
    early.ask();
    drop(early);
    resume.end().succeeded();
    master.stop();
}
