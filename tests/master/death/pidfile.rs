//! The pid file when its owner is dead, and when two want it (U22, P8).

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Scene, process, until};

/// A process of ours that is no master, and that every TERM or HUP would end.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let child = Command::new("sleep").arg("1000").spawn();
        Bystander(child.expect("sleep"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `pf-ctl` without a master; its exit code.
fn ctl(scene: &Scene, line: &str) -> Option<i32> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let status = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .arg(verb)
        .arg(scene.path("app.pid"))
        .args(rest.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("pf-ctl").code()
}

#[test]
fn u22_a_pid_file_with_a_foreign_pid_is_harmless() {
    let scene = Scene::new();
    let mut bystander = Bystander::start();
    let stale = format!("{}\n", bystander.pid());
    std::fs::write(scene.path("app.pid"), &stale).expect("written");
    for line in [
        "stop",
        "stop --now",
        "reload",
        "reload --no-wait",
        "reopen",
        "pause",
        "scale 3",
        "signal TERM",
        "signal KILL",
        "pid",
    ] {
        assert_eq!(ctl(&scene, line), Some(3), "pf-ctl {line}");
        assert!(bystander.lives(), "pf-ctl {line}");
    }
    assert_eq!(scene.text("app.pid"), stale, "and it was only looked at");
    let master = scene.master("-n 1 --ready fd=9").start();
    assert_eq!(scene.text("app.pid"), format!("{}\n", master.pid()));
    master.ctl("reload").succeeded();
    master.stop();
    assert!(bystander.lives());
}

/// One of two that start at the same moment.
struct Starter(Child);

impl Starter {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }

    fn ended(&mut self) -> Option<Option<i32>> {
        self.0
            .try_wait()
            .expect("our own child")
            .map(|status| status.code())
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn starter(scene: &Scene) -> Starter {
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(scene.path("err"))
        .expect("a log");
    let child = Command::new(env!("CARGO_BIN_EXE_pf-master"))
        .args(["-n", "1", "--ready", "exec", "--graceful-timeout", "1s"])
        .arg("--pid")
        .arg(scene.path("app.pid"))
        .args(["--", "sleep", "1000"])
        .current_dir(scene.dir())
        .env("PF_TEST_SAY", scene.path("say"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn();
    Starter(child.expect("pf-master"))
}

/// What is in the directory.
fn names(scene: &Scene) -> BTreeSet<String> {
    let entries = std::fs::read_dir(scene.dir()).expect("a directory");
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

#[test]
fn u22_p8_of_two_starters_exactly_one_wins_two_hundred_times() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    std::fs::write(scene.path("err"), "").expect("written");
    let before = names(&scene);
    for round in 0..200 {
        let mut both = [starter(&scene), starter(&scene)];
        let (place, code) = until("one of them gives up", || {
            (0..2).find_map(|place| Some((place, both[place].ended()?)))
        });
        assert_eq!(code, Some(6), "round {round}:\n{}", scene.text("err"));
        let winner = &mut both[1 - place];
        assert_eq!(
            winner.ended(),
            None,
            "round {round}:\n{}",
            scene.text("err")
        );
        let number = format!("{}\n", winner.pid());
        // It has the lock of the stale file while it writes the new one.
        until("it has written its number", || {
            (scene.text("app.pid") == number).then_some(())
        });
        let mut standing = before.clone();
        standing.extend(["app.ctl".to_owned(), "app.pid".to_owned()]);
        until("it has put its names there, and nothing else", || {
            (names(&scene) == standing).then_some(())
        });
        // One round leaves a clean place, the next a stale file and a stale socket.
        let end = if round % 2 == 0 {
            Signal::SIGTERM
        } else {
            Signal::SIGKILL
        };
        process::signal(winner.pid(), end);
        let code = until("the other ends", || winner.ended());
        let clean = round % 2 == 0;
        assert_eq!(code, clean.then_some(0), "round {round}");
        processes.gone();
        let expected = if clean { &before } else { &standing };
        assert_eq!(&names(&scene), expected, "round {round}");
    }
    let log = scene.text("err");
    assert!(!log.contains("panicked"), "{log}");
}
