//! How `pf-ctl events` ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::{Followed, assert_gapless, command, is, names, output, small};
use crate::common::service::{Scene, end_of};

#[test]
fn it_ends_with_0_once_the_service_has_stopped() {
    let scene = Scene::new();
    let mut master = small(&scene, 2);
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    master.signal(Signal::SIGQUIT);
    let (code, events) = followed.end();
    assert_eq!(code, Some(0), "{events:?}");
    assert_eq!(master.end(), Some(0));
    assert_gapless(&events);
    assert_eq!(
        names(&events)[6..],
        [
            "stopping",
            "worker-retiring",
            "worker-retiring",
            "worker-exited",
            "worker-exited"
        ]
    );
}

#[test]
fn it_ends_with_3_if_the_master_died_or_there_is_none() {
    let scene = Scene::new();
    let mut master = small(&scene, 1);
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    master.signal(Signal::SIGKILL);
    master.status_at_end();
    let (code, events) = followed.end();
    assert_eq!(code, Some(3), "{events:?}");
    assert_eq!(
        scene.text("events1.err"),
        "pf-ctl: events: the master died\n"
    );
    output(&mut command(&scene.path("app.pid"), &[])).failed(3, &["not running"]);
}

#[test]
fn it_ends_with_3_if_another_service_has_the_names() {
    let scene = Scene::new();
    let mut master = small(&scene, 1);
    // Stopped, so that it does not look before the next service stands.
    let followed = Followed::since(&scene, 0);
    followed.until("it follows", |event| is(event, "rollout-done"));
    let pid = i32::try_from(followed.child.id()).expect("a pid");
    crate::common::service::process::signal(pid, Signal::SIGSTOP);
    master.signal(Signal::SIGKILL);
    master.status_at_end();
    let next = small(&scene, 3);
    crate::common::service::process::signal(pid, Signal::SIGCONT);
    let (code, events) = followed.end();
    assert_eq!((code, events.len()), (Some(3), 4));
    next.stop();
}

#[test]
fn it_ends_quietly_when_its_output_has_no_reader() {
    let scene = Scene::new();
    let master = small(&scene, 1);
    let mut child = command(&scene.path("app.pid"), &["--since", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pf-ctl starts");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    // No further event comes, and it ends all the same.
    drop(out);
    assert_eq!(end_of(&mut child, "pf-ctl events").code(), Some(0));
    let mut err = String::new();
    let mut pipe = child.stderr.take().expect("piped");
    std::io::Read::read_to_string(&mut pipe, &mut err).expect("UTF-8");
    assert_eq!(err, "");
    master.stop();
}
