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
    sv(&["start"]).done();
    place.serves();
    place.status("ready", serves(1));
    sv(&["hup"]).done();
    place.status("reloaded", serves(2));
    sv(&["1"]).done();
    place.kill_master();
    let before = place.status("started again", serves(1));
    sv(&["restart"]).done();
    // sv looks at the time in whole seconds, and takes one that was started in the same one for the new one.
    let serves_anew = |status: &_| serves(1)(status) && status["pid"] != before["pid"];
    place.status("restarted", serves_anew);
    place.serves();
    let down = sv(&["stop"]).done();
    assert!(down.stdout.starts_with("ok: down:"), "{down:?}");
    // It stays down, until it is told otherwise.
    assert!(sv(&["status"]).done().stdout.starts_with("down:"));
    sv(&["start"]).done();
    place.serves();
    sv(&["exit"]).done();
    assert_eq!(runsv.end(), Some(0));
    place.nothing_left();
}
