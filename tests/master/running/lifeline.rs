//! `--lifeline-fd`: the service ends with those who own it (P6).

use std::fs::File;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;

use crate::common::service::master::Launch;
use crate::common::service::process::{alive, descriptors, gone, status, wait_for_sleep};
use crate::common::service::scene_processes::{SceneProcesses, guard_of};
use crate::common::service::{Master, Scene, until};

/// Becomes the master, whose fd 7 is what its standard input was.
const AT_7: &[&str] = &["sh", "-c", r#"exec 7<&0 </dev/null; exec "$@""#, "sh"];

/// A master with a lifeline at fd 7, and the other end.
fn owned<'a>(scene: &'a Scene, options: &str) -> (Launch<'a>, PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let options = format!("--lifeline-fd 7 --ready fd=9 {options}");
    let launch = scene.master(&options).wrapped_in(AT_7);
    let reader = File::from(OwnedFd::from(reader));
    (launch.stdin(reader), writer)
}

/// It has stopped gracefully, and its log says why.
#[track_caller]
fn stopped(master: &mut Master, why: &str) {
    assert_eq!(master.end(), Some(0), "{}", master.log());
    let log = master.log();
    let line = format!("pf-master: lifeline: fd 7: {why}\n");
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    assert!(log.contains("stop: graceful"), "{log}");
}

#[test]
fn p6_a_byte_stops_the_service_gracefully() {
    let scene = Scene::new();
    // It drains until the test lets it go.
    scene.app(r#"trap 'say told; read x <"$PF_TEST_DOOR$PF_WORKER"; exit 0' TERM; up; while :; do sleep 0.01; done"#);
    let (launch, mut holder) = owned(&scene, "-n 1");
    let mut master = launch.start();
    let mut events = master.control();
    events.request(&serde_json::json!({"cmd": "events"}));
    assert_eq!(events.line().expect("it follows")["event"], "following");
    holder.write_all(b"x").expect("a byte");
    scene.report("told");
    let mut told = until("it stops", || {
        events.line().filter(|line| line["event"] == "stopping")
    });
    assert_eq!(told["reason"].take(), "lifeline: fd 7: a byte has arrived");
    assert_eq!(told["severity"], "graceful");
    // Neither the byte, which stays, nor another one, nor the end keeps the master awake.
    let _ = holder.write_all(b"y");
    drop(holder);
    until("the master sleeps", || {
        status(master.pid(), "State").starts_with('S').then_some(())
    });
    scene.open_door(0);
    stopped(&mut master, "a byte has arrived");
}

#[test]
fn p6_the_end_of_the_last_holder_stops_it() {
    let scene = Scene::new();
    let (launch, holder) = owned(&scene, "-n 2");
    let mut master = launch.start();
    let mut other = std::process::Command::new("sleep")
        .arg("1000")
        .stdin(std::process::Stdio::null())
        .stdout(holder.try_clone().expect("a copy"))
        .spawn()
        .expect("sleep starts");
    drop(holder);
    assert_eq!(master.status()["state"], "running");
    let workers = master.workers();
    other.kill().expect("killed");
    other.wait().expect("our own child");
    stopped(&mut master, "all holders are gone");
    workers.into_iter().for_each(gone);
}

#[test]
fn p6_without_a_holder_it_stops_at_once() {
    let scene = Scene::new();
    let (launch, holder) = owned(&scene, "-n 1");
    drop(holder);
    let mut master = launch.spawn();
    stopped(&mut master, "all holders are gone");
}

#[test]
fn p6_p11_the_master_alone_has_it() {
    let scene = Scene::new();
    let (launch, holder) = owned(&scene, "-n 1");
    let mut master = launch.start();
    assert_eq!(
        descriptors(master.pid()).get(&7).map(String::as_str),
        Some("pipe")
    );
    let pipe = |pid: i32| std::fs::read_link(format!("/proc/{pid}/fd/7")).ok();
    let ours = pipe(master.pid());
    assert!(ours.is_some());
    let worker = master.workers()[0];
    wait_for_sleep(worker);
    for pid in [worker, guard_of(master.pid())] {
        let dir = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
        let open = dir
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok());
        assert!(
            !open.into_iter().any(|file| Some(file) == ours),
            "process {pid}"
        );
    }
    drop(holder);
    stopped(&mut master, "all holders are gone");
}

#[test]
fn p6_u16_it_holds_through_both_upgrades() {
    let scene = Scene::new();
    let all = SceneProcesses::of(&scene);
    let (launch, holder) = owned(&scene, "-n 1");
    let mut master = launch.start();
    master.ctl("upgrade").succeeded();
    master.ctl("upgrade").succeeded();
    assert_eq!(
        descriptors(master.pid()).get(&7).map(String::as_str),
        Some("pipe")
    );
    // Both serve: both have it, and both stop.
    master.ctl("upgrade --fork --manual").succeeded();
    let new = until("a new master", || {
        scene.text("app.pid").trim_end().parse::<i32>().ok()
    });
    assert_ne!(new, master.pid());
    assert!(alive(new));
    drop(holder);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    all.gone();
    let told = master
        .log()
        .matches("lifeline: fd 7: all holders are gone")
        .count();
    assert_eq!(told, 2, "{}", master.log());
}

#[test]
fn p6_a_new_master_that_is_alone_has_it() {
    let scene = Scene::new();
    let all = SceneProcesses::of(&scene);
    let (launch, holder) = owned(&scene, "-n 1");
    let mut master = launch.start();
    master.ctl("upgrade --fork").succeeded();
    assert_eq!(master.end(), Some(0), "{}", master.log());
    assert!(!all.all().is_empty());
    drop(holder);
    all.gone();
    assert!(
        master
            .log()
            .contains("lifeline: fd 7: all holders are gone")
    );
}

#[test]
fn p6_p7_a_daemon_keeps_it() {
    let scene = Scene::new();
    let all = SceneProcesses::of(&scene);
    let log = scene.path("log").display().to_string();
    let (launch, holder) = owned(&scene, &format!("-n 1 --daemonize --log {log}"));
    let mut caller = launch.spawn();
    assert_eq!(caller.end(), Some(0));
    assert!(!all.all().is_empty());
    drop(holder);
    all.gone();
    assert!(
        scene
            .text("log")
            .contains("lifeline: fd 7: all holders are gone")
    );
}

#[test]
fn p6_standard_input_may_be_it() {
    let scene = Scene::new();
    let (reader, holder) = std::io::pipe().expect("a pipe");
    let mut master = scene
        .master("-n 1 --ready fd=9 --lifeline-fd 0")
        .stdin(File::from(OwnedFd::from(reader)))
        .start();
    master.ctl("upgrade").succeeded();
    drop(holder);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    assert!(
        master
            .log()
            .contains("lifeline: fd 0: all holders are gone")
    );
}

#[test]
fn p6_what_cannot_be_a_lifeline_is_wrong_usage() {
    let scene = Scene::new();
    let null = &["sh", "-c", r#"exec 7</dev/null; exec "$@""#, "sh"][..];
    let none: &[&str] = &[];
    for (options, wrapper, code, parts) in [
        ("--lifeline-fd 7", null, 2, &["fd 7", "no pipe"][..]),
        ("--lifeline-fd 7", none, 111, &["fd 7"]),
        ("--lifeline-fd 1", none, 2, &[]),
        (
            "--lifeline-fd 3 --listen 127.0.0.1:0",
            none,
            2,
            &["fd 3", "listeners"],
        ),
        ("--lifeline-fd 7 --keep-fd 7", AT_7, 2, &["--keep-fd 7"]),
        ("--lifeline-fd 0 --daemonize", none, 2, &["/dev/null"]),
    ] {
        for check in ["", " --check"] {
            let ended = scene
                .master(&format!("-n 1 --ready exec {options}{check}"))
                .wrapped_in(wrapper)
                .run();
            assert_eq!(ended.code, Some(code), "{options}{check}: {ended:?}");
            for part in parts {
                assert!(ended.stderr.contains(part), "{options}{check}: {ended:?}");
            }
        }
    }
    let (launch, _holder) = owned(&scene, "-n 1 --check");
    launch.run().succeeded();
}
