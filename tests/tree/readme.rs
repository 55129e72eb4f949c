//! Runs what the README shows, unchanged; and checks that `examples/demo.sh` leaves nothing behind
//! however it ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use prefork::error::Exit;

use crate::common::running::Running;
use crate::common::service::{end_of, until};
use crate::common::support::copies::ForAnybody;
use crate::common::support::service::hello;
use crate::common::support::{ports, skip};
use crate::stage::{Stage, blocks, have, named, package, path, programs, readme};

/// The ports of the README replaced by free ones.
fn on_free_ports(text: &str) -> String {
    let (service, private) = (ports(2), ports(2));
    text.replace("8080", &service.to_string())
        .replace("9000", &private.to_string())
        .replace("9001", &(private + 1).to_string())
}

/// Runs a recipe to its end; what it said.
fn cook(stage: &Stage, name: &str, path: &OsString) -> String {
    let recipe = named("recipe")
        .remove(name)
        .unwrap_or_else(|| panic!("no recipe {name}"));
    let work = stage.at("work");
    for (name, text) in named("file") {
        fs::write(work.join(name), text).expect("written");
    }
    // The service is in the background: its end is the recipe's.
    fs::write(
        stage.at("recipe"),
        on_free_ports(&recipe) + "wait ${!:+\"$!\"}\n",
    )
    .expect("written");
    let said = File::create(stage.at("said")).expect("a file");
    let mut command = stage.command(Path::new("bash"));
    command
        .args(["-e", "-u", "-o", "pipefail"])
        .arg(stage.at("recipe"))
        .current_dir(work)
        .env("PATH", path);
    command
        .stdout(said.try_clone().expect("a copy"))
        .stderr(said);
    let mut child = command.spawn().expect("bash");
    let status = end_of(&mut child, name);
    let said = fs::read_to_string(stage.at("said")).expect("read");
    assert!(status.success(), "{name}: {status}\n{said}");
    stage.assert_nothing_left();
    said
}

/// Runs a recipe, which has to say these things in this order.
fn recipe(name: &str, says: &[&str]) {
    let stage = Stage::new();
    let programs = programs();
    let said = cook(
        &stage,
        name,
        &path(&[&programs, &programs.join("examples")]),
    );
    let mut rest = said.as_str();
    for wanted in says {
        rest = match rest.split_once(wanted) {
            Some((_, rest)) => rest,
            None => panic!("{name}: no '{wanted}' where it should be in\n{said}"),
        };
    }
}

#[test]
fn a_rehearsal_of_the_first_service_loses_nothing() {
    recipe(
        "drill",
        &["STEP", "undisturbed", "kill -9 of slot 0", "\n0 of "],
    );
}

#[test]
fn s6_the_first_service() {
    let says = [
        "hello world, from slot ",
        "reload done: generation 2, 8 workers ready",
        "8 of 8 workers ready",
        "stopped",
    ];
    recipe("first", &says);
}

#[test]
fn releases_behind_a_link() {
    let says = [
        "release 2 serves",
        "release 3 does not come up; releases/2 serves on",
        "exit code 1",
        "generation 4",
        "stopped",
    ];
    recipe("releases", &says);
}

#[test]
fn the_master_itself() {
    let says = [
        "peak workers",
        "has taken over",
        "upgrade done: generation 2",
        "last rollout: upgrade",
        "stopped",
    ];
    recipe("upgrade", &says);
}

#[test]
fn workers_in_rust() {
    if have(&["curl"]) {
        let says = ["hello world", "stopped"].repeat(3);
        recipe("rust", &says);
        recipe("restart", &["hello world, from slot -, pid "]);
    }
}

/// What is compiled is the same in the documentation.
#[test]
fn the_rust_program_matches_the_documentation() {
    let documentation = include_str!("../../src/worker/server/mod.rs");
    let documented = |line: &str| format!("/// {line}").trim_end().to_owned();
    for block in blocks(&readme()) {
        if block.words == ["rust"] {
            let lines: Vec<String> = block.text.lines().map(documented).collect();
            let text = lines.join("\n");
            assert!(documentation.contains(&text), "{text}");
        }
    }
}

#[test]
fn u18_u19_recipe_of_two_masters() {
    let says = [
        "upgrade done: generation 2",
        "upgrade done: generation 3",
        "running (old master)",
        "stopped",
        "running, generation 3",
        "stopped",
    ];
    recipe("fork", &says);
}

#[test]
fn another_environment_and_another_command() {
    let says = [
        "+GREETING=salut",
        "generation 2",
        "generation 3",
        "changed by reload: --set GREETING=salut --unset PROXY -- nice hello",
        "generation 4",
        "stopped",
    ];
    recipe("changes", &says);
}

#[test]
fn a_worker_in_python() {
    if have(&["python3", "curl"]) {
        recipe(
            "python",
            &["hello from slot ", "reload done", "hello from slot "],
        );
    }
}

#[test]
fn a_worker_in_shell() {
    recipe(
        "shell",
        &["job ", "job ", "job ", "job ", "job ", "stopped"],
    );
}

#[test]
fn a_program_for_each_connection() {
    let says = [
        "hello world at 127.0.0.1, from worker ",
        "reload done: generation 2",
        "stopped",
    ];
    recipe("accept", &says);
}

#[test]
fn a_health_check() {
    recipe(
        "health",
        &[
            "exit code 3",
            "healthy",
            "2 \"state\":\"ready\"",
            "1 \"state\":\"running\"",
        ],
    );
}

#[test]
fn a_master_that_may_be_killed() {
    recipe("hold", &["hello world, from slot ", "stopped"]);
}

#[test]
fn socket_activation() {
    if have(&["systemd-socket-activate"]) {
        recipe("systemd", &["hello world, from slot "]);
    }
}

#[test]
fn u31_into_the_background() {
    let says = [
        "up",
        " owns it",
        "exit code 6",
        "stopped",
        "the first rollout failed: slot 0: worker ",
        "exit code 1",
    ];
    recipe("daemonize", &says);
}

#[test]
fn units_are_sound() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let stage = Stage::new();
    for (name, text) in named("file")
        .into_iter()
        .filter(|(name, _)| name.starts_with("app."))
    {
        // Their place in this repository.
        let text = text.replace("/usr/local/bin/hello", &hello().display().to_string());
        let text = text.replace("/usr/local/bin", &programs().display().to_string());
        fs::write(stage.at("work").join(name), text).expect("written");
    }
    let mut command = stage.command(Path::new("systemd-analyze"));
    let output = command
        .args(["verify", "./app.service", "./app.socket"])
        .current_dir(stage.at("work"))
        .output();
    let output = output.expect("systemd-analyze starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("app."), "{said}");
}

#[test]
fn u3_a_private_listener_for_each_worker() {
    recipe(
        "private",
        &[
            "hello you, from slot 1, ",
            "reload done: generation 2",
            "stopped",
        ],
    );
}

#[test]
fn p5_a_port_more_without_a_restart() {
    recipe(
        "ports",
        &[
            "add-fds done: generation 2",
            "hello you, from slot ",
            "remove-listener done: generation 3",
            "stopped",
        ],
    );
}

#[test]
fn p5_the_sockets_are_handed_to_another_master() {
    recipe("handing", &["stopped", "hello you, from slot ", "stopped"]);
}

#[test]
fn other_tools_in_the_chain() {
    if have(&["nice", "prlimit", "setpriv"]) {
        recipe("chain", &["ready: generation 1"]);
    }
}

#[test]
fn privileges_are_given_up_after_binding() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root has privileges to give up");
    }
    let stage = Stage::new();
    // Where they cannot be executed.
    let programs = ForAnybody::copy([
        Path::new(env!("CARGO_BIN_EXE_pf-listen")),
        Path::new(env!("CARGO_BIN_EXE_pf-master")),
        Path::new(env!("CARGO_BIN_EXE_pf-ctl")),
        &hello(),
    ]);
    let said = cook(&stage, "privileges", &path(&[programs.dir()]));
    assert!(said.contains("ready: generation 1"), "{said}");
}

#[test]
fn every_recipe_is_run() {
    let joined = |source: &str| source.split_whitespace().collect::<String>();
    let (here, load) = (
        joined(include_str!("readme.rs")),
        joined(include_str!("recipes/load.rs")),
    );
    let broken = joined(include_str!("recipes/broken.rs"));
    for name in named("recipe").keys() {
        let under_load = load.contains(&format!("under_load(\"{name}\","));
        let calls = [
            format!("recipe(\"{name}\","),
            format!("cook(&stage,\"{name}\","),
        ];
        let as_it_is = calls.iter().any(|call| here.contains(call));
        assert!(as_it_is || under_load, "{name}");
        let with_broken_releases = broken.contains(&format!("broken(\"{name}\","));
        assert!(!under_load || with_broken_releases, "{name}");
    }
}

#[test]
fn every_exit_code_is_in_the_table() {
    let all = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::NotRunning,
        Exit::Permission,
        Exit::Timeout,
        Exit::Refused,
        Exit::System,
        Exit::NotExecutable,
        Exit::NotFound,
    ];
    let text = readme();
    let listed = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(' ')?.0.parse().ok());
    let listed: Vec<u8> = listed.collect();
    assert_eq!(listed, all.map(Exit::code));
}

/// `examples/demo.sh` with the programs that are built already.
fn demo(stage: &Stage) -> Command {
    let mut command = stage.command(&package("examples/demo.sh"));
    command.env("PF_BIN", programs()).current_dir("/");
    command
}

#[test]
fn the_first_lesson_loses_nothing_and_leaves_nothing() {
    let stage = Stage::new();
    let output = demo(&stage).output().expect("it starts");
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{errors}");
    for part in [
        "hello world, from slot ",
        "generation 4\n",
        "0 requests failed.",
        "4 of 4 workers ready",
    ] {
        assert!(said.contains(part), "no '{part}' in {said}{errors}");
    }
    stage.assert_nothing_left();
}

#[test]
fn the_first_lesson_can_be_interrupted_at_every_step() {
    for step in ["Start", "Ask", "Scale", "Reload", "Look", "Stop"] {
        // The terminal's Ctrl-C goes to all of them, kill(1) to the script alone.
        for all in [true, false] {
            until("it is interrupted before its end", || {
                interrupted(step, all)
            });
        }
    }
}

/// Interrupts the first lesson in this step; `None` if the lesson ended before.
fn interrupted(step: &str, all: bool) -> Option<()> {
    let stage = Stage::new();
    let mut command = demo(&stage);
    command.process_group(0);
    let mut running = Running::start(command);
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a pid"));
    while !running.line().starts_with(&format!("==> {step}")) {}
    let sent = if all {
        killpg(pid, Signal::SIGINT)
    } else {
        kill(pid, Signal::SIGINT)
    };
    sent.expect("it runs");
    // It says on before it ends.
    let mut is_whole = false;
    while let Some(line) = running.line_or_end() {
        is_whole |= line.starts_with("That is all.");
    }
    let (status, errors) = running.finish();
    stage.assert_nothing_left();
    if is_whole && status.success() {
        return None;
    }
    assert_eq!(status.code(), Some(130), "{step}: {status}: {errors}");
    Some(())
}
