//! A pid file, a control socket, or a directory of sockets that another process has removed.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::service::{Control, Master, Scene, process, until};

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// The master has this path again: it answers there, or holds its lock.
#[track_caller]
fn is_back(scene: &Scene, master: &Master, name: &str) {
    let pid = format!("{}\n", master.pid());
    until(&format!("{name} is back"), || match name {
        "app.ctl" => Control::connect(&scene.path(name)).ok().map(drop),
        _ => fs::read_to_string(scene.path(name))
            .is_ok_and(|text| text == pid)
            .then_some(()),
    });
}

#[test]
fn a_path_that_was_removed_or_moved_away_is_made_anew_and_told_of() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready exec")
        .names("--pid app.pid --control app.ctl,mode=0640")
        .command(SLEEP)
        .start();
    let workers = master.workers();
    let mut client = master.control();
    for verb in ["reopen", "reload", "upgrade", "upgrade --dry-run"] {
        for name in ["app.ctl", "app.pid"] {
            fs::remove_file(scene.path(name)).expect("ours");
            is_back(&scene, &master, name);
            master.wait_for_log(&format!(
                "{name} had been removed by another process: it is made anew"
            ));
        }
        let pid = master.ctl("pid").succeeded().stdout;
        assert_eq!(pid.trim(), master.pid().to_string());
        master.ctl(verb).succeeded();
    }
    let mode = fs::metadata(scene.path("app.ctl")).expect("there").mode();
    assert_eq!(mode & 0o7777, 0o640);
    // Moved away.
    for name in ["app.ctl", "app.pid"] {
        fs::rename(scene.path(name), scene.path("aside")).expect("moved");
        is_back(&scene, &master, name);
    }
    // The lock is held: no second master can have the names.
    let second = scene.master("-n 1 --ready exec").command(SLEEP).run();
    second.failed(6, &["app.pid", &master.pid().to_string()]);
    // A client that was connected all the time is.
    assert_eq!(client.ask(&json!({"cmd": "status"}))["ok"], true);
    assert_ne!(master.workers(), workers);
    master.stop();
    for name in ["app.ctl", "app.pid"] {
        assert!(!scene.path(name).exists(), "{name}");
    }
}

#[test]
fn a_path_where_something_else_stands_now_is_left_alone_until_it_is_free() {
    for name in ["app.ctl", "app.pid"] {
        let scene = Scene::new();
        let master = scene.master("-n 1 --ready exec").command(SLEEP).start();
        fs::write(scene.path("file"), "another's").expect("written");
        fs::rename(scene.path("file"), scene.path(name)).expect("replaced");
        let told = "is not ours any more: another process has put something else there";
        master.wait_for_log(&format!("{name} {told}"));
        assert_eq!(scene.text(name), "another's");
        // As soon as that goes.
        fs::remove_file(scene.path(name)).expect("ours");
        is_back(&scene, &master, name);
        assert_eq!(master.log().matches(told).count(), 1);
        master.stop();
    }
}

#[test]
fn two_masters_make_their_paths_anew_each_its_own() {
    let scene = Scene::new();
    let mut master = scene.master("-n 1 --ready exec").command(SLEEP).start();
    master.ctl("upgrade --fork --manual").succeeded();
    let old = ["app.pid.oldbin.ctl", "app.pid.oldbin"];
    for name in ["app.pid.oldbin.ctl", "app.pid.oldbin", "app.ctl", "app.pid"] {
        fs::remove_file(scene.path(name)).expect("ours");
    }
    let pid_at = |name: &str| {
        until(name, || {
            let mut control = Control::connect(&scene.path(name)).ok()?;
            Some(control.status()["pid"].clone())
        })
    };
    assert_eq!(pid_at("app.pid.oldbin.ctl"), json!(master.pid()));
    assert_ne!(pid_at("app.ctl"), json!(master.pid()));
    is_back(&scene, &master, "app.pid.oldbin");
    // What was made anew goes to its place with the end of the upgrade.
    let new = i32::try_from(pid_at("app.ctl").as_i64().expect("a pid")).expect("a pid");
    process::signal(new, Signal::SIGQUIT);
    until("the old master has its names again", || {
        (!old.iter().any(|name| scene.path(name).exists())).then_some(())
    });
    assert_eq!(master.status()["pid"], json!(master.pid()));
    master.ctl("stop").succeeded();
    assert_eq!(master.end(), Some(0));
}

#[test]
fn einhorns_socket_and_the_directory_of_notify_path_are_made_anew() {
    let scene = Scene::new();
    let options = "-n 1 --ready exec -l 127.0.0.1:0 -e einhorn --notify-path notify";
    let master = scene.master(options).command(SLEEP).start();
    let acks = scene.path(&format!("app.{}.ack", master.pid()));
    fs::remove_file(&acks).expect("ours");
    until("the socket is back", || acks.exists().then_some(()));
    master.wait_for_log("einhorn's socket");
    fs::remove_dir_all(scene.path("notify")).expect("ours");
    let before = master.workers();
    process::signal(before[0], Signal::SIGKILL);
    master.until("the next worker", |status| {
        let pid = &status["slots"][0]["pid"];
        pid.is_i64() && *pid != json!(before[0])
    });
    assert_eq!(
        fs::read_dir(scene.path("notify")).expect("there").count(),
        1
    );
    master.stop();
    assert!(!acks.exists());
}
