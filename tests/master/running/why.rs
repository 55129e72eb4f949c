//! `pf-status --why SLOT`: the story of one slot, told to who is on call (R70).

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::service::process::{signal, wait_for_sleep};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Ended, HANG, Master, Scene};

/// `pf-status` of this master, with these options.
fn pf_status(master: &Scene, options: &str) -> Ended {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-status"));
    command
        .arg(master.path("app.pid"))
        .args(options.split_whitespace())
        .env_remove("COLUMNS")
        .timeout(HANG);
    Ended::of(&command.output().expect("pf-status starts"))
}

/// The entries of a slot, each as its event and what is worth knowing of it.
fn story(scene: &Scene, slot: u32) -> Vec<String> {
    let told = pf_status(scene, &format!("--json --why {slot}"));
    assert!(matches!(told.code, Some(0 | 1)), "{told:?}");
    assert_eq!(told.stdout.lines().count(), 1, "{told:?}");
    let story: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(story["slot"], slot);
    assert_eq!(story["output"], Value::Null);
    let entries = story["entries"].as_array().expect("entries");
    let line = |entry: &Value| {
        let known = ["event", "pid", "reason", "signal", "to", "cause", "code"];
        let known = known.iter().filter_map(|name| match &entry[*name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        known.collect::<Vec<_>>().join(" ")
    };
    entries.iter().map(line).collect()
}

/// Workers that are ready at once, and end by TERM.
fn service(scene: &Scene, options: &str) -> Master {
    scene.app("say up; up; rest");
    scene.master(&format!("--ready fd=9 {options}")).start()
}

#[test]
fn r70_a_slot_tells_what_happened_to_it_and_why() {
    let scene = Scene::new();
    let master = service(&scene, "-n 1 --backoff 1h..1h");
    let first = scene.report("up").pid;
    wait_for_sleep(first);
    master.ctl("reload").succeeded();
    let second = scene.report("up").pid;
    master.until("the old one is gone", |status| {
        status["retiring"] == json!([])
    });
    wait_for_sleep(second);
    let lived = [
        format!("started {first}"),
        format!("executed {first}"),
        format!("ready {first}"),
        format!("started {second}"),
        format!("executed {second}"),
        format!("ready {second}"),
        format!("retiring {first} reload"),
        format!("signal {first} reload TERM worker"),
        format!("exited {first} TERM stopped"),
    ];
    assert_eq!(story(&scene, 0), lived);
    // In words, with the state at the end; and it is ready.
    let told = pf_status(&scene, "--why 0").succeeded();
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines.len(), lived.len() + 1, "{told:?}");
    let why = format!("worker {first} of generation 1 gets TERM: reload to generation 2");
    assert!(lines[7].ends_with(&why), "{told:?}");
    let now = format!("now: ready, worker {second} of generation 2, up ");
    assert!(lines[9].starts_with(&now), "{told:?}");
    assert_eq!(pf_status(&scene, "--why 0 -q").succeeded().stdout, "");
    // A stranger kills it: the slot waits, and says until when.
    signal(second, Signal::SIGKILL);
    master.until("it waits", |status| status["workers"]["backoff"] == 1);
    let told = pf_status(&scene, "--why 0");
    assert_eq!(told.code, Some(1), "{told:?}");
    let died = format!("worker {second} of generation 2 was killed by KILL");
    assert!(told.stdout.contains(&died), "{told:?}");
    assert!(told.stdout.contains("the next start is in "), "{told:?}");
    assert!(
        told.stdout
            .contains("\nnow: backoff, no worker; the process before: signaled at ")
    );
    // A client's signal, and one that goes to the worker because of a restart.
    master.ctl("restart-worker 0").succeeded();
    let third = scene.report("up").pid;
    master.ctl("signal WINCH --slot 0").succeeded();
    let told = story(&scene, 0);
    let last: Vec<&str> = told
        .iter()
        .rev()
        .take(6)
        .rev()
        .map(String::as_str)
        .collect();
    let wanted = [
        "waiting".to_owned(),
        "restart".to_owned(),
        format!("started {third}"),
        format!("executed {third}"),
        format!("ready {third}"),
        format!("signal {third} requested WINCH worker"),
    ];
    assert_eq!(last, wanted);
    // A pause was asked for.
    master.ctl("pause").succeeded();
    let told = pf_status(&scene, "--why 0").succeeded();
    assert!(told.stdout.contains("\nnow: empty, no worker"), "{told:?}");
    master.stop();
}

#[test]
fn r70_a_story_goes_on_in_the_next_image_and_in_the_next_master() {
    let scene = Scene::new();
    let _all = SceneProcesses::of(&scene);
    let master = service(&scene, "-n 1");
    let first = scene.report("up").pid;
    master.ctl("upgrade").succeeded();
    let second = scene.report("up").pid;
    master.until("the old one is gone", |status| {
        status["retiring"] == json!([])
    });
    let told = story(&scene, 0);
    assert_eq!(told[0], format!("started {first}"));
    assert!(
        told.contains(&format!("signal {first} upgrade TERM worker")),
        "{told:?}"
    );
    master.ctl("upgrade --fork").succeeded();
    let third = scene.report("up").pid;
    // What happens in the old master after the new one was started is told there, too.
    crate::common::service::until(
        "the end of the old worker is known in the new master",
        || {
            let told = story(&scene, 0);
            let all = [
                format!("started {first}"),
                format!("ready {third}"),
                format!("signal {second} upgrade TERM worker"),
                format!("exited {second} TERM stopped"),
            ];
            all.iter().all(|entry| told.contains(entry)).then_some(())
        },
    );
    let mut stop = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    stop.arg("stop").arg(scene.path("app.pid")).timeout(HANG);
    stop.assert().success();
}

#[test]
fn r70_a_slot_that_was_scaled_away_keeps_its_story_and_an_unknown_one_is_wrong_usage() {
    let scene = Scene::new();
    let master = service(&scene, "-n 2");
    let away = scene
        .reports("up", 2)
        .into_iter()
        .find(|report| report.slot == 1)
        .expect("a worker of slot 1")
        .pid;
    wait_for_sleep(away);
    master.ctl("scale 1").succeeded();
    let told = story(&scene, 1);
    assert!(
        told.contains(&format!("signal {away} scale TERM worker")),
        "{told:?}"
    );
    let told = pf_status(&scene, "--why 1");
    assert_eq!(told.code, Some(1), "{told:?}");
    let now = "now: slot 1 was scaled away: the service has 1\n";
    assert!(told.stdout.ends_with(now), "{told:?}");
    let unknown = pf_status(&scene, "--why 7");
    unknown.failed(2, &["no slot 7", "the service has 1 slot, number 0"]);
    pf_status(&scene, "--why 0 --metrics").failed(2, &[]);
    pf_status(&scene, "--why many").failed(2, &[]);
    master.stop();
}

#[test]
fn r70_a_program_that_cannot_be_executed_is_told_with_the_reason() {
    let scene = Scene::new();
    let master = service(&scene, "-n 1 --start-failures 1");
    scene.report("up");
    std::fs::write(scene.path("broken"), "no program").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scene.path("broken"), mode).expect("mode");
    let broken = scene.path("broken").display().to_string();
    master.ctl(&format!("reload -- {broken}")).failed(1, &[]);
    let told = pf_status(&scene, "--why 0").succeeded();
    let why = "could not be started: ";
    let line = told.stdout.lines().find(|line| line.contains(why));
    let line = line.unwrap_or_else(|| panic!("{told:?}"));
    assert!(line.contains("Exec format error"), "{line}");
    let entries = story(&scene, 0);
    let failed =
        |entry: &&String| entry.ends_with("exec-failed 127") || entry.ends_with("exec-failed 126");
    assert_eq!(entries.iter().filter(failed).count(), 1, "{entries:?}");
    master.stop();
}
