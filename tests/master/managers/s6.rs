//! s6: `s6-supervise` on the service directory by itself.

use std::fs;

use super::place::{Place, have, serves};
use crate::common::service::until;

const FILES: [&str; 5] = [
    "run",
    "finish",
    "data/check",
    "notification-fd",
    "timeout-kill",
];

#[test]
fn under_s6_supervise_it_starts_reloads_restarts_and_stops() {
    if !have(&[
        "s6-supervise",
        "s6-svc",
        "s6-svwait",
        "s6-svok",
        "s6-notifyoncheck",
    ]) {
        return;
    }
    let place = Place::new();
    let service = place.lay("s6", &FILES, "service");
    let service = service.to_str().expect("UTF-8");
    let mut supervise = place.manager(&["s6-supervise", service]);
    until("s6-supervise listens", || {
        place
            .run(&["s6-svok", service])
            .code
            .filter(|code| *code == 0)
    });
    let wait = |how: &str| {
        place
            .run(&["s6-svwait", how, "-t", "18000", service])
            .succeeded()
    };
    let svc = |how: &str| place.run(&["s6-svc", how, service]).succeeded();
    // Ready, as the service has said itself.
    wait("-U");
    let before = place.status("ready", |_| true);
    assert!(serves(1)(&before), "{before:#}");
    place.serves();
    svc("-h");
    place.status("reloaded", serves(2));
    place.kill_master();
    let before = place.status("started again", serves(1));
    svc("-r");
    let after = place.status("restarted", |status| {
        status["pid"] != before["pid"] && serves(1)(status)
    });
    assert_ne!(after["pid"], before["pid"]);
    wait("-U");
    svc("-d");
    wait("-D");
    svc("-u");
    wait("-U");
    place.serves();
    svc("-xd");
    assert_eq!(supervise.end(), Some(0));
    place.nothing_left();
}

#[test]
fn a_usage_error_is_not_restarted() {
    if !have(&["s6-supervise", "s6-svwait", "s6-svstat", "s6-svok"]) {
        return;
    }
    let place = Place::new();
    let service = place.lay("s6", &["finish"], "service");
    let tried = place.path("tried");
    fs::write(
        service.join("run"),
        format!(
            "#!/bin/sh\necho >>{}\nexec pf-listen --shiny\n",
            tried.display()
        ),
    )
    .expect("written");
    place
        .run(&["chmod", "+x", &service.join("run").display().to_string()])
        .succeeded();
    let service = service.to_str().expect("UTF-8");
    let mut supervise = place.manager(&["s6-supervise", service]);
    let wanted = until("it is given up", || {
        let told = place
            .run(&["s6-svstat", "-o", "up,wantedup,exitcode", service])
            .stdout;
        told.trim_end().ends_with("false false 2").then_some(told)
    });
    assert_eq!(wanted, "false false 2\n");
    assert_eq!(fs::read_to_string(&tried).expect("tried"), "\n");
    place.run(&["s6-svc", "-x", service]).succeeded();
    assert_eq!(supervise.end(), Some(0));
    place.nothing_left();
}
