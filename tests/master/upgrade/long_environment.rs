//! A long environment: the master, all generations that can be gone back to, and the next image
//! share what they store of it.

use super::upgrades;
use crate::common::service::{Master, Scene, process, until};

/// How many times its length an environment may take, the kernel's own copy on the stack included.
const TIMES: u64 = 3;

/// Nearly as much as an exec allows where the stack may be 8 MiB: a quarter of that, for the
/// arguments, the variables and the pointers to them.
fn many_short() -> Vec<(String, String)> {
    let variable = |number| (format!("SHORT_{number:05}"), "x".repeat(90));
    (0..16_000).map(variable).collect()
}

/// The same in variables that are nearly as long as an exec allows.
fn few_long() -> Vec<(String, String)> {
    let variable = |number| (format!("LONG_{number:02}"), "x".repeat(130_000));
    (0..14).map(variable).collect()
}

/// What the master has in memory that is no file, in bytes.
fn memory(master: &Master) -> u64 {
    let text = process::status(master.pid(), "RssAnon");
    let number = text.split_whitespace().next();
    let number: u64 = number.and_then(|it| it.parse().ok()).expect("a number");
    number * 1024
}

fn start(scene: &Scene, variables: &[(String, String)]) -> Master {
    let launch = scene.master("-n 1 --ready exec").command(["sleep", "1000"]);
    let launch = variables
        .iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value));
    launch.start()
}

type Step = fn(&Master);

/// Each of the steps, after which a master is looked at.
const STEPS: [(&str, Step); 4] = [
    ("a start", |_| {}),
    ("three reloads", three_reloads),
    ("an upgrade", upgrades),
    ("three more", three_reloads),
];

/// To other releases, each of which can be gone back to.
fn three_reloads(master: &Master) {
    for _ in 0..3 {
        let number = &master.status()["generation"];
        master
            .ctl(&format!("reload --set STEP={number}"))
            .succeeded();
    }
}

#[track_caller]
fn takes_its_length_three_times(variables: &[(String, String)]) {
    let length = |(name, value): &(String, String)| name.len() + value.len() + 2;
    let length: usize = variables.iter().map(length).sum();
    let allowed = TIMES * length as u64;
    let scenes = [Scene::new(), Scene::new()];
    let (short, long) = (start(&scenes[0], &[]), start(&scenes[1], variables));
    for (what, step) in STEPS {
        step(&short);
        step(&long);
        let least = memory(&short);
        let limit = format!("after {what} at most {allowed} bytes for {length}");
        // What the start of the last worker has used is freed once that is known to run.
        until(&limit, || {
            let more = memory(&long).saturating_sub(least);
            (more <= allowed).then_some(())
        });
    }

    long.ctl("rollback --to 2").succeeded();
    let worker = process::environment(long.workers()[0]);
    assert_eq!(worker["STEP"], "1", "the environment of generation 2");
    for (name, value) in variables {
        assert!(worker.get(name) == Some(value), "{name}");
    }
    short.stop();
    long.stop();
}

#[test]
fn many_short_variables_are_stored_once_for_all_releases() {
    takes_its_length_three_times(&many_short());
}

#[test]
fn few_long_variables_are_stored_once_for_all_releases() {
    takes_its_length_three_times(&few_long());
}
