//! When COMMAND is started again, when not, and how the holder ends.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use super::support::{child, held, signal, with};
use crate::common::running::{Running, finished, pf_listen};
use crate::common::service::{HANG, Scene, process, until};

#[test]
fn a_command_that_exits_0_ends_the_holder() {
    let (code, out, errors) = finished(held("echo run; exit 0"));
    assert_eq!((code, out.as_str(), errors.as_str()), (0, "run\n", ""));
}

#[test]
fn a_first_start_that_cannot_succeed_is_given_up() {
    for code in [2, 111, 126, 127] {
        let (ended, out, errors) = finished(held(&format!("echo run; exit {code}")));
        assert_eq!((ended, out.as_str()), (code, "run\n"));
        assert!(
            errors.starts_with("pf-listen: bash (pid ")
                && errors.ends_with(&format!(
                    "exited with code {code} at its first start; it is not started again\n"
                )),
            "{errors}"
        );
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(pf_listen());
        command
            .args(["--hold", "127.0.0.1:0", "--"])
            .args(words)
            .env("PATH", "/usr/bin:/bin");
        finished(command)
    };
    let (code, _, errors) = run(&["no-such-command-here"]);
    let told = "pf-listen: cannot execute no-such-command-here: No such file or directory";
    assert_eq!(code, 127);
    assert!(errors.starts_with(told), "as without a holder: {errors}");
    assert_eq!(run(&["/dev/null"]).0, 126);
    let (code, _, errors) = run(&[env!("CARGO_BIN_EXE_pf-master"), "--shiny", "--", "true"]);
    let told = "pf-master: unexpected argument '--shiny' found";
    assert!(code == 2 && errors.starts_with(told), "{errors}");
}

#[test]
fn a_bind_failure_is_reported_before_the_first_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = taken.local_addr().expect("an address").to_string();
    let mut command = Command::new(pf_listen());
    command.args(["--hold", "--tries", "0", &at, "--", "echo", "run"]);
    let (code, out, errors) = finished(command);
    assert_eq!((code, out.as_str(), errors.lines().count()), (111, "", 1));
}

#[test]
fn a_dead_command_restarts_after_doubling_waits() {
    // It reports its own start time, because the test may read it much later. It ends after that.
    let mut running = Running::start(held("date +%s%3N; exit 1"));
    let (mut last, mut rested, mut next, mut row) = (None, 0, 100, 0);
    while row < 4 {
        let began: u64 = running.line().parse().expect("milliseconds");
        let apart = last.replace(began).map_or(rested, |before| began - before);
        assert!(apart >= rested, "{apart} after {rested}");
        let told = running.error_line("exited with code 1; started again ");
        if told.ends_with("at once") {
            // On a busy machine it lived longer than its wait, and the waits start again.
            (rested, next, row) = (0, 100, 0);
            continue;
        }
        let said = told.rsplit(' ').next().expect("a word");
        let said = humantime::parse_duration(said)
            .expect("a duration")
            .as_millis();
        assert!(
            (u128::from(next)..=u128::from(next + next / 10)).contains(&said),
            "{told}"
        );
        (rested, next, row) = (next, next * 2, row + 1);
    }
}

#[test]
fn a_long_lived_command_restarts_at_once() {
    let mut running = Running::start(held("echo run; exec sleep 1000"));
    for _ in 0..2 {
        assert_eq!(running.line(), "run");
        clock::pause(Duration::from_millis(150));
        process::signal(child(&running), Signal::SIGKILL);
        running.error_line("was ended by signal KILL; started again at once");
    }
    assert_eq!(running.line(), "run");
}

#[test]
fn after_a_requested_stop_it_exits_as_command_did() {
    for sig in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let script = "trap 'exit 9' TERM INT QUIT; echo up; while :; do sleep 0.01; done";
        let mut running = Running::start(held(script));
        assert_eq!(running.line(), "up");
        signal(&running, sig);
        let (status, errors) = running.end();
        assert_eq!((status.code(), errors.as_str()), (Some(9), ""), "{sig}");

        let mut command = Command::new(pf_listen());
        command.args(["--hold", "127.0.0.1:0", "--", "sleep", "1000"]);
        let running = Running::start(command);
        until("it is executed", || {
            (process::name(child(&running)) == "sleep").then_some(())
        });
        signal(&running, sig);
        let (status, _) = running.end();
        assert_eq!(
            (status.signal(), status.core_dumped()),
            (Some(sig as i32), false)
        );
    }
}

#[test]
fn after_a_stop_request_it_is_not_restarted() {
    let mut running = Running::start(held(
        "trap 'echo told' TERM; echo up; while :; do sleep 0.01; done",
    ));
    assert_eq!(running.line(), "up");
    signal(&running, Signal::SIGTERM);
    assert_eq!(running.line(), "told");
    process::signal(child(&running), Signal::SIGKILL);
    assert_eq!(running.line_or_end(), None);
    assert_eq!(running.end().0.signal(), Some(9));
}

#[test]
fn a_reload_signal_is_no_stop_request() {
    let script = "trap 'echo reload' HUP; echo run; while :; do sleep 0.01; done";
    let mut running = Running::start(held(script));
    assert_eq!(running.line(), "run");
    signal(&running, Signal::SIGHUP);
    assert_eq!(running.line(), "reload");
    process::signal(child(&running), Signal::SIGKILL);
    assert_eq!(running.line(), "run");
}

#[test]
fn a_stop_is_obeyed_while_command_is_down() {
    let mut running = Running::start(with(&["-v"], "exit 1"));
    let limit = clock::now() + HANG;
    // So long a wait that the signal falls into it.
    loop {
        let told = running.error_line("started again in ");
        let wait = told.rsplit(' ').next().expect("a word");
        let long = wait.ends_with('s') && !wait.ends_with("ms") || told.contains("s ");
        if long && told.contains("in 3s") {
            break;
        }
        assert!(clock::now() < limit, "{told}");
    }
    signal(&running, Signal::SIGTERM);
    let (status, errors) = running.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        errors,
        "pf-listen: told to exit while COMMAND does not run\n"
    );
}

#[test]
fn s3_pf_ctl_stop_ends_the_holder_too() {
    let scene = Scene::new();
    let wrapper = [pf_listen(), "--hold", "127.0.0.1:0", "--"];
    let mut master = scene
        .master("-n 2 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    let family = process::descendants(master.pid());
    master.ctl("stop").succeeded();
    assert_eq!(master.end(), Some(0), "{}", master.log());
    assert!(family.iter().all(|(pid, _)| !process::alive(*pid)));
}

/// Its end would be taken for the daemon's, and another started.
#[test]
fn u31_a_daemon_cannot_be_held() {
    let mut command = Command::new(pf_listen());
    command.args([
        "--hold",
        "127.0.0.1:0",
        "--",
        env!("CARGO_BIN_EXE_pf-master"),
    ]);
    command.args(["--daemonize", "--pid", "/nowhere/app.pid", "--", "true"]);
    let (code, _, errors) = finished(command);
    assert_eq!(code, 2, "{errors}");
    assert!(
        errors.starts_with("pf-master: --daemonize: pf-listen --hold would"),
        "{errors}"
    );
}
