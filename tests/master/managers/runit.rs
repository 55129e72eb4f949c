//! runit: `runsv` on the service directory by itself.

use super::place::{Place, have, serves};

#[test]
fn runsv_starts_reloads_restarts_and_stops_it() {
    if !have(&["runsv", "sv"]) {
        return;
    }
    let place = Place::new();
    let service = place.lay("runit", &["run", "check"], "service");
    let service = service.to_str().expect("UTF-8");
    let mut runsv = place.manager(&["runsv", service]);
    let sv = |words: &[&str]| place.run(&[&["sv", "-w", "18"], words, &[service]].concat());
    crate::common::service::until("runsv listens", || {
        sv(&["status"]).code.filter(|code| *code == 0)
    });
    sv(&["start"]).succeeded();
    place.serves();
    place.status("ready", serves(1));
    sv(&["hup"]).succeeded();
    place.status("reloaded", serves(2));
    sv(&["1"]).succeeded();
    place.kill_master();
    let before = place.status("started again", serves(1));
    sv(&["restart"]).succeeded();
    // sv compares start times in whole seconds, and takes a service started in the same second for
    // the new one.
    let serves_anew = |status: &_| serves(1)(status) && status["pid"] != before["pid"];
    place.status("restarted", serves_anew);
    place.serves();
    let down = sv(&["stop"]).succeeded();
    assert!(down.stdout.starts_with("ok: down:"), "{down:?}");
    // It stays down until `sv up`.
    assert!(sv(&["status"]).succeeded().stdout.starts_with("down:"));
    sv(&["start"]).succeeded();
    place.serves();
    sv(&["exit"]).succeeded();
    assert_eq!(runsv.end(), Some(0));
    place.nothing_left();
}
