//! `pf-ctl drill`: a rehearsal under load, which deploys nothing and finds out who loses clients.

mod failed_steps;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::running::{Running, pf_listen};
use crate::common::service::control::error;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene, process};
use crate::common::support::copies::copied;
use crate::common::terminal::{terminal, wait_for_text};

/// Answers each line with slot, generation and pid, and finishes what it has accepted.
const GOOD: &str = "play serve";

const OPTIONS: &str = "-n 2 --ready notify --listen web=127.0.0.1:0";

/// The options of a drill: a line, to be answered until the end of the connection.
const DRILL: &str = r"drill --yes --request who\n";

const STEPS: [&str; 8] = [
    "undisturbed",
    "reload",
    "restart-worker",
    "scale",
    "scale-back",
    "upgrade",
    "upgrade-fork",
    "kill",
];

/// The document of a drill, which ends with this code.
#[track_caller]
fn drilled(master: &Master, code: i32) -> Value {
    let ended = master.ctl(&format!("{DRILL} --json"));
    assert_eq!(ended.code, Some(code), "{ended:?}\n{}", master.log());
    let document: Value = serde_json::from_str(&ended.stdout).expect("one JSON document");
    assert_eq!(document["ok"], code == 0, "{document:#}");
    document
}

/// The step of this name.
fn step<'a>(document: &'a Value, name: &str) -> &'a Value {
    let steps = document["steps"].as_array().expect("steps");
    let found = steps.iter().find(|step| step["step"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {document:#}"))
}

/// How many were lost in this way, in the steps in which workers are told to finish.
fn lost(document: &Value, kind: &str) -> u64 {
    let steps = document["steps"].as_array().expect("steps");
    let counts = steps.iter().map(|step| step["lost"][kind].as_u64());
    counts.map(|count| count.expect("a count")).sum()
}

#[track_caller]
fn found(document: &Value, name: &str, kind: &str, whose: &str) {
    let findings = step(document, name)["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["kind"] == kind);
    assert_eq!(found.expect("found")["whose"], whose, "{document:#}");
}

#[test]
fn a_good_service_loses_nothing_and_nothing_is_deployed() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    for release in ["r1", "r2", "r3"] {
        fs::create_dir(scene.path(release)).expect("a directory");
        scene.script(&format!("{release}/app"), GOOD);
    }
    let switch = |to: &str| {
        symlink(to, scene.path("next")).expect("a link");
        fs::rename(scene.path("next"), scene.path("current")).expect("renamed");
    };
    switch("r1");
    let socket = scene.path("app.sock");
    let mut master = scene
        .master(OPTIONS)
        .option("--listen", format!("local=unix:{}", socket.display()))
        .option("--listen", "dns=udp:127.0.0.1:0")
        .command(["./current/app"])
        .start();
    switch("r2");
    master.ctl("reload").succeeded();
    // What a reload would deploy now.
    switch("r3");
    let before = master.status();
    let document = drilled(&master, 0);

    let steps = document["steps"].as_array().expect("steps");
    let names: Vec<_> = steps.iter().map(|step| step["step"].clone()).collect();
    assert_eq!(names, STEPS);
    for step in steps {
        assert_eq!(step["result"], "done", "{step:#}");
        assert!(step["answers"].as_u64() >= Some(100), "{step:#}");
        assert!(step["p50_s"].as_f64() <= step["p99_s"].as_f64(), "{step:#}");
    }
    assert_eq!(
        (&document["lost"], &document["differs"]),
        (&0.into(), &Value::from(Vec::<u8>::new()))
    );
    let tried = |name: &str| {
        let listeners = document["listeners"].as_array().expect("a list").iter();
        listeners
            .clone()
            .find(|it| it["name"] == name)
            .expect("named")["tried"]
            .clone()
    };
    assert_eq!(
        [tried("web"), tried("local"), tried("dns")],
        [true, true, false]
    );

    // The old master of the upgrade by fork has gone.
    assert_eq!(master.end(), Some(0));
    let after = master.status();
    for same in [
        "program", "cwd", "command", "release", "role", "state", "changes",
    ] {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(after["workers"]["wanted"], 2);
    assert_eq!(after["generation"], 5);
    // A rollback goes where it would have gone before.
    master.ctl("rollback").succeeded();
    let program = master.status()["program"].clone();
    let first = fs::canonicalize(scene.path("r1"))
        .expect("real")
        .join("app");
    assert_eq!(program, first.to_str().expect("UTF-8"));
    master.ctl("stop").succeeded();
}

#[test]
fn a_program_that_drops_what_it_has_accepted_is_found_out() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app("play 'serve drop'");
    let master = scene.master(OPTIONS).start();
    let document = drilled(&master, 1);
    assert_eq!(step(&document, "undisturbed")["lost"]["empty"], 0);
    for name in [
        "reload",
        "restart-worker",
        "scale-back",
        "upgrade",
        "upgrade-fork",
    ] {
        assert!(
            step(&document, name)["lost"]["empty"].as_u64() >= Some(1),
            "{document:#}"
        );
        found(&document, name, "empty", "program");
    }
    assert!(
        document["verdict"]
            .as_str()
            .expect("words")
            .contains(" empty")
    );
    master.ctl("stop").succeeded();
}

#[test]
fn a_program_that_shuts_the_listener_down_is_found_out() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    // Until it is killed, and the master makes the listener whole again.
    scene.app("play 'serve shut'");
    let options = format!("{OPTIONS} --graceful-timeout 1s");
    let master = scene.master(&options).start();
    let document = drilled(&master, 1);
    assert!(
        step(&document, "reload")["lost"]["refused"].as_u64() >= Some(1),
        "{document:#}"
    );
    found(&document, "reload", "refused", "program");
    assert!(lost(&document, "refused") >= 5, "{document:#}");
    master.ctl("stop").succeeded();
}

#[test]
fn another_answer_is_found_out_and_a_table_tells_it() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let mut master = scene.master(OPTIONS).start();
    // The file at the pinned path is another one: the next worker that dies would be of it, too.
    scene.app("play 'serve other'");
    let ended = master.ctl(DRILL);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.starts_with("STEP "), "{ended:?}");
    let row = |name: &str| ended.stdout.lines().find(|line| line.starts_with(name));
    let reload = row("reload").expect("a row");
    assert!(
        reload
            .split_whitespace()
            .nth(3)
            .is_some_and(|lost| lost != "0"),
        "{reload}"
    );
    assert!(row("wrong, in reload").is_some_and(|line| line.contains("the program")));
    assert!(
        ended
            .stdout
            .trim_end()
            .lines()
            .last()
            .is_some_and(|last| last.contains(" wrong"))
    );
    assert_eq!(master.end(), Some(0));
    master.ctl("stop").succeeded();
}

#[test]
fn a_service_that_does_not_answer_is_left_alone() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app("play 'serve mute'");
    let master = scene.master(OPTIONS).start();
    let ended = master.ctl(DRILL);
    ended.failed(6, &["even when it is left alone", "--request"]);
    assert_eq!(master.status()["generation"], 1);
    master.stop();
}

#[test]
fn it_asks_first_and_no_is_no() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let master = scene.master(OPTIONS).start();
    master.ctl(r"drill --request who\n").failed(2, &["--yes"]);
    let (held, end) = terminal();
    let mut asked = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .arg("drill")
        .arg(scene.path("app.pid"))
        .args(["--request", r"who\n"])
        .stdin(end.try_clone().expect("a copy"))
        .stdout(Stdio::null())
        .stderr(end)
        .spawn()
        .expect("pf-ctl starts");
    let text = wait_for_text(&held, "Begin? [y/N] ");
    for told in [
        "2 workers",
        "reload, restart-worker 0 to 1, scale 3",
        "Nothing is deployed",
    ] {
        assert!(text.contains(told), "{text}");
    }
    (&held).write_all(b"n\n").expect("written");
    assert_eq!(asked.wait().expect("its end").code(), Some(6));
    assert_eq!(master.status()["generation"], 1);
    assert_eq!(master.status()["counters"]["spawned"], 2);
    master.stop();
}

#[test]
fn it_is_refused_where_it_makes_no_sense_now() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let master = scene.master(OPTIONS).start();
    master
        .ctl("drill --yes --no-wait")
        .failed(2, &["--no-wait"]);
    master.ctl(r"drill --yes --request \q").failed(2, &[r"\q"]);
    // What the drill asks for takes nothing that would be deployed.
    for request in [
        json!({"cmd": "reload", "copy": true, "set": {"A": "b"}}),
        json!({"cmd": "reload", "copy": true, "dry_run": true}),
        json!({"cmd": "upgrade", "copy": true, "fork": true, "manual": true}),
    ] {
        assert_eq!(error(&master.control().ask(&request)).0, "usage");
    }
    master.ctl("pause").succeeded();
    master.ctl(DRILL).failed(6, &["paused"]);
    let refused = master.ctl(&format!("{DRILL} --json"));
    let document: Value = serde_json::from_str(&refused.stdout).expect("one JSON document");
    assert_eq!(document["error"]["code"], "refused");
    master.ctl("resume").succeeded();
    // New workers wait at the door: the reload is under way.
    scene.app(r#"say up; read x <"$PF_TEST_DOOR$PF_WORKER"; play serve"#);
    let op = master.ctl("reload --no-wait").succeeded().stdout;
    scene.report("up");
    master
        .ctl(DRILL)
        .failed(6, &["operation", op.trim(), "is under way"]);
    master.stop();

    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    let master = scene.master("-n 1 --ready fd=9").start();
    master.ctl(DRILL).failed(6, &["no stream listener"]);
    master.stop();
}

#[test]
fn the_step_by_fork_is_left_out_under_a_holder() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let wrapper = [pf_listen(), "--hold", "127.0.0.1:0", "--"];
    let launch = scene.master("-n 1 --ready notify").wrapped_in(wrapper);
    let master = launch.start();
    let document = drilled(&master, 0);
    let fork = step(&document, "upgrade-fork");
    assert_eq!(fork["result"], "left-out");
    assert!(
        fork["why"].as_str().expect("words").contains("--hold"),
        "{fork}"
    );
    assert_eq!(step(&document, "upgrade")["result"], "done");
    assert_eq!(step(&document, "kill")["result"], "done");
    master.ctl("stop").succeeded();
}

#[test]
fn the_image_that_runs_is_executed_and_no_other() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let program = scene.path("pf-master");
    copied(env!("CARGO_BIN_EXE_pf-master"), &program);
    // In place of the program that the launch would start.
    let other = [r#"shift; exec "$0" "$@""#, program.to_str().expect("UTF-8")];
    let launch = scene
        .master(OPTIONS)
        .wrapped_in(["sh", "-c"].iter().chain(&other));
    let mut master = launch.option("--reexec", "exit 1").start();
    // A release of pf-tools that must not be deployed: the file of the image is gone.
    scene.script("pf-master", "exit 1");
    master.ctl("upgrade").failed(1, &[]);
    let document = drilled(&master, 0);
    assert_eq!(step(&document, "upgrade")["result"], "done");
    assert_eq!(step(&document, "upgrade-fork")["result"], "done");
    assert_eq!(master.end(), Some(0));
    let pid = master.status()["pid"].as_i64().expect("a pid");
    let pid = i32::try_from(pid).expect("a pid");
    assert_eq!(process::name(pid), "pf-master");
    master.ctl("stop").succeeded();
}

#[test]
fn ctrl_c_leaves_the_number_of_slots_as_it_was() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    let master = scene.master(OPTIONS).start();
    let mut drill = Running::start({
        let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
        command.arg("drill").arg(scene.path("app.pid"));
        command.args(["--yes", "--request", r"who\n"]);
        command
    });
    drill.error_line("scale 3 (");
    process::signal(i32::try_from(drill.pid()).expect("a pid"), Signal::SIGINT);
    let (status, _) = drill.end();
    let by = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(by, Some(nix::libc::SIGINT), "{status:?}");
    master.until("2 slots, all ready", |status| {
        status["workers"]["wanted"] == 2 && status["workers"]["ready"] == 2
    });
    master.stop();
}

#[test]
fn the_step_by_fork_is_left_out_below_a_supervisor_that_waits_for_the_pid() {
    let scene = Scene::new();
    let _processes = SceneProcesses::of(&scene);
    scene.app(GOOD);
    // A parent of that name, which waits.
    let supervisor = scene.path("runsv");
    copied("/bin/sh", &supervisor);
    let words = [
        supervisor.to_str().expect("UTF-8"),
        "-c",
        r#""$@"; exit $?"#,
        "sh",
    ];
    let master = scene.master(OPTIONS).wrapped_in(words).start();
    let request = json!({"cmd": "upgrade", "copy": true, "fork": true, "dry_run": true});
    let (code, why) = error(&master.control().ask(&request));
    assert_eq!(code, "refused");
    assert!(why.starts_with("runsv, process "), "{why}");
    // An operator who asks for it knows better.
    let request = json!({"cmd": "upgrade", "fork": true, "dry_run": true});
    assert_eq!(master.control().ask(&request)["ok"], true);
    master.ctl("stop").succeeded();
}
