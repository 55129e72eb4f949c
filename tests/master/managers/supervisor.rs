//! supervisord, with a configuration around the example that keeps it to the test's directory.

use std::fs;

use super::place::{Place, have, serves};
use crate::common::service::until;

#[test]
fn supervisord_starts_reloads_restarts_and_stops_it() {
    if !have(&["supervisord", "supervisorctl"]) {
        return;
    }
    let place = Place::new();
    let at = |name: &str| place.path(name).display().to_string();
    let around = format!(
        "[unix_http_server]\nfile={sock}\n[supervisord]\nlogfile={log}\npidfile={pid}\n\
         childlogdir={dir}\nnodaemon=true\n\
        [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = \
        supervisor.rpcinterface:make_main_rpcinterface\n\
        [supervisorctl]\nserverurl=unix://{sock}\n",
        sock = at("supervisor.sock"),
        log = at("supervisord.log"),
        pid = at("supervisord.pid"),
        dir = at(""),
    );
    let conf = at("supervisord.conf");
    fs::write(&conf, around + &place.text("supervisor/app.conf")).expect("written");
    let mut supervisord = place.manager(&["supervisord", "-c", &conf]);
    let ctl = |words: &[&str]| place.run(&[&["supervisorctl", "-c", &conf], words].concat());
    until("it is started", || {
        ctl(&["status", "app"])
            .stdout
            .contains("RUNNING")
            .then_some(())
    });
    place.status("ready", serves(1));
    place.serves();
    ctl(&["signal", "HUP", "app"]).succeeded();
    place.status("reloaded", serves(2));
    place.kill_master();
    let before = place.status("started again", serves(1));
    ctl(&["restart", "app"]).succeeded();
    let after = place.status("restarted", serves(1));
    assert_ne!(after["pid"], before["pid"]);
    ctl(&["stop", "app"]).succeeded();
    assert!(ctl(&["status", "app"]).stdout.contains("STOPPED"));
    ctl(&["start", "app"]).succeeded();
    place.status("ready", serves(1));
    // Ended by ways of our own, it is no failure that would have to be repaired.
    place.run(&["pf-ctl", "stop", &at("app.pid")]).succeeded();
    until("it has exited", || {
        ctl(&["status", "app"])
            .stdout
            .contains("EXITED")
            .then_some(())
    });
    ctl(&["shutdown"]).succeeded();
    assert_eq!(supervisord.end(), Some(0));
    place.nothing_left();
}
