//! `--control-token`: clients present the content of a file, or are not heard (P2).

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Control, Ended, Master, Scene};

const SECRET: &str = "open sesame";

/// A service with a token, and clients of it.
struct Guarded {
    scene: Scene,
    /// The new master of an upgrade by fork outlives the first one.
    _processes: SceneProcesses,
}

impl Guarded {
    fn new() -> Guarded {
        let scene = Scene::new();
        fs::write(scene.path("secret"), format!("{SECRET}\n")).expect("written");
        let _processes = SceneProcesses::of(&scene);
        Guarded { scene, _processes }
    }

    fn start(&self) -> Master {
        // The start itself cannot be awaited by a client that presents nothing.
        let options = "-n 1 --ready fd=9 --listen 127.0.0.1:0 --control-token secret";
        let master = self.scene.master(options).spawn();
        master.wait_for_log("start done");
        master
    }

    fn file(&self, name: &str, token: &str) {
        fs::write(self.scene.path(name), token).expect("written");
    }

    /// `pf-ctl LINE` or `pf-status LINE` with the right token.
    fn run(&self, program: &str, line: &str) -> Ended {
        self.with_token(program, line, Some("secret"))
    }

    fn with_token(&self, program: &str, line: &str, token: Option<&str>) -> Ended {
        let token = token.into_iter().flat_map(|file| ["--token", file]);
        run(&self.scene, program, line.split_whitespace().chain(token))
    }

    fn connect(&self) -> Control {
        Control::connect(&self.scene.path("app.ctl")).expect("connected")
    }
}

fn run<'a>(scene: &Scene, program: &str, words: impl Iterator<Item = &'a str>) -> Ended {
    let file = match program {
        "pf-ctl" => env!("CARGO_BIN_EXE_pf-ctl"),
        _ => env!("CARGO_BIN_EXE_pf-status"),
    };
    let output = Command::new(file)
        .args(words)
        .current_dir(scene.dir())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    Ended::of(&output)
}

/// The connection ends, and not a byte has come.
#[track_caller]
fn ends_without_a_word(mut control: Control, what: &str) {
    let mut bytes = Vec::new();
    // What was sent and not read makes it a reset.
    let read = control.stream.read_to_end(&mut bytes);
    let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
    assert!(read.as_ref().err().is_none_or(reset), "{what}: {read:?}");
    assert!(bytes.is_empty(), "{what}: {bytes:?}");
}

fn present(token: &str) -> Value {
    json!({ "token": token })
}

#[test]
fn p2_a_client_without_the_token_is_exit_4() {
    let service = Guarded::new();
    let _master = service.start();
    service.file("prefix", &SECRET[..4]);
    service.file("longer", &format!("{SECRET}!"));
    service.file("wrong", "shut sesame");
    for (program, line) in [
        ("pf-ctl", "reload app.pid"),
        ("pf-ctl", "listeners app.ctl"),
        ("pf-ctl", "stop app.pid"),
        ("pf-ctl", "wait app.pid --ready"),
        ("pf-status", "app.pid"),
        ("pf-status", "app.ctl"),
    ] {
        service
            .with_token(program, line, None)
            .failed(4, &["it asks for a token", "--token FILE"]);
        let wrong = service.with_token(program, line, Some("wrong"));
        wrong.failed(4, &["it asks for another token"]);
    }
    for wrong in ["prefix", "longer"] {
        let status = service.with_token("pf-status", "app.pid", Some(wrong));
        status.failed(4, &["it asks for another token"]);
    }
    assert_eq!(service.run("pf-status", "app.pid").code, Some(0));
    service.run("pf-ctl", "wait app.pid --ready").succeeded();
    service.run("pf-ctl", "stop app.pid").succeeded();
}

#[test]
fn p2_what_is_no_token_is_answered_by_nothing() {
    let service = Guarded::new();
    let _master = service.start();
    let lines: [&[u8]; 8] = [
        b"{\"cmd\":\"status\"}\n",
        b"{\"token\":\"open\"}\n",
        b"{\"token\":\"open sesame\",\"cmd\":\"status\"}\n",
        b"{\"token\":7}\n",
        b"\n",
        b"\xff\n",
        b"{\"token\":\"open sesame\"",
        &[b'x'; 100_000],
    ];
    for line in lines {
        let mut control = service.connect();
        // A master that has hung up already is what is asked for here.
        let _ = control.send(line);
        let _ = control.stream.shutdown(std::net::Shutdown::Write);
        ends_without_a_word(control, &String::from_utf8_lossy(line));
    }
    // The right one comes too late, however soon after a wrong one.
    let mut control = service.connect();
    let lines = format!(
        "{}\n{}\n{{\"cmd\":\"stop\"}}\n",
        present("open"),
        present(SECRET)
    );
    let _ = control.send(lines);
    ends_without_a_word(control, "a wrong one first");
    assert_eq!(service.run("pf-status", "app.pid").code, Some(0));
    // Right, and everything that follows it at once.
    let mut control = service.connect();
    let lines = format!("{}\n{{\"cmd\":\"status\",\"id\":1}}\n", present(SECRET));
    control.send(lines).expect("sent");
    assert_eq!(control.reply()["id"], 1);
    // It is presented once.
    control.request(&present(SECRET));
    assert_eq!(control.reply()["error"]["code"], "bad-request");
}

#[test]
fn p2_a_client_that_presents_nothing_does_not_stay() {
    let service = Guarded::new();
    let _master = service.start();
    let (silent, mut half) = (service.connect(), service.connect());
    half.send("{\"token\":").expect("sent");
    ends_without_a_word(silent, "silent");
    ends_without_a_word(half, "half a line");
}

#[test]
fn p2_the_token_holds_through_upgrades_and_is_read_anew() {
    let service = Guarded::new();
    let _master = service.start();
    let mut before = service.connect();
    before.request(&present(SECRET));
    before.status();
    for verb in ["upgrade app.pid", "upgrade app.pid --fork"] {
        service.run("pf-ctl", verb).succeeded();
        let without = service.with_token("pf-ctl", verb, None);
        without.failed(4, &["it asks for a token"]);
        if !verb.contains("--fork") {
            before.status();
        }
    }
    // It changes when the master is told to read it again.
    service.file("secret", "another\n");
    service.file("before", SECRET);
    let reopen = service.with_token("pf-ctl", "reopen app.pid", Some("before"));
    reopen.succeeded();
    let reopen = service.with_token("pf-ctl", "reopen app.pid", Some("before"));
    reopen.failed(4, &["it asks for another token"]);
    // One that cannot be read leaves the one before.
    fs::rename(service.scene.path("secret"), service.scene.path("moved")).expect("moved");
    for _ in 0..2 {
        let reopen = service.with_token("pf-ctl", "reopen app.pid", Some("moved"));
        reopen.succeeded();
    }
    let stop = service.with_token("pf-ctl", "stop app.pid", Some("moved"));
    stop.succeeded();
}

#[test]
fn p2_a_master_without_a_token_takes_any() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    fs::write(scene.path("any"), "any\n").expect("written");
    let words = ["app.pid", "--token", "any"];
    let status = run(&scene, "pf-status", words.into_iter());
    assert_eq!(status.code, Some(0), "{status:?}");
    drop(master);
}

#[test]
fn p2_a_file_that_holds_no_token_ends_the_start() {
    let scene = Scene::new();
    fs::write(scene.path("empty"), "\n").expect("written");
    for (file, why) in [("empty", "it is empty"), ("none", "No such file")] {
        let options = format!("-n 1 --control-token {file}");
        scene.master(&options).run().failed(111, &[file, why]);
    }
}
