//! `--check`, and command lines that cannot be meant.

use crate::common::service::{Ended, Scene};

fn check(scene: &Scene, options: &str, command: &[&str]) -> Ended {
    scene
        .master(&format!("--check {options}"))
        .command(command)
        .run()
}

#[test]
fn check_looks_at_everything_and_starts_nothing() {
    let scene = Scene::new();
    let running = scene
        .master("-n 1 --ready fd=9 --listen 127.0.0.1:0")
        .start();
    scene.report("up");
    let bound = crate::common::service::master::address(&running.status(), 0);
    let before: Vec<_> = std::fs::read_dir(scene.dir())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();

    // Also beside a running master with the same names and addresses.
    let app = scene.path("app").display().to_string();
    let said = check(
        &scene,
        &format!("--listen {bound} --listen unix:x.sock -n 4 --ready fd=9"),
        &[&app],
    )
    .succeeded();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    check(&scene, "", &["sh", "-c", "true"]).succeeded();
    check(&scene, "", &["no-such-program-anywhere"]).failed(
        1,
        &["worker program no-such-program-anywhere", "No such file"],
    );
    check(&scene, "", &["./say"]).failed(1, &["worker program ./say", "ermission"]);
    check(&scene, "", &["./"]).failed(1, &["worker program ./"]);
    check(&scene, "--chdir nowhere", &["sh"]).failed(1, &["working directory", "nowhere"]);
    check(&scene, "--listen unix:x,owner=no-such-user-here", &["sh"])
        .failed(111, &["no-such-user-here"]);
    check(&scene, "--listen no-such-host.invalid:80", &["sh"])
        .failed(111, &["no-such-host.invalid"]);
    check(&scene, "--listen 127.0.0.1:0 --ready fd=3", &["sh"]).failed(2, &["fd=3"]);
    check(&scene, "--env =x", &["sh"]).failed(2, &["--env", "K=V"]);
    check(&scene, "--env PF_WORKER=1", &["sh"]).failed(2, &["PF_WORKER", "the master's own"]);
    check(&scene, "--reexec exit", &["sh"]).succeeded();
    check(&scene, "--reexec (", &["sh"]).failed(2, &["--reexec '('", "yntax"]);
    check(&scene, "--control x,backlog=1", &["sh"]).failed(2, &["--control"]);
    check(&scene, "--log nowhere/log", &["sh"]).failed(111, &["nowhere/log"]);

    let mut after: Vec<_> = std::fs::read_dir(scene.dir())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    after.retain(|name| !name.to_string_lossy().starts_with("run."));
    assert_eq!(after.len(), before.len(), "{after:?}");
    assert_eq!(scene.unread_reports(), []);
    running.stop();
}

#[test]
fn each_wrong_option_value_is_one_clear_error() {
    let wrong = [
        ("--workers", &["x", "-1", "1.5", "10001", ""][..]),
        (
            "--listen",
            &[
                "",
                "no/where",
                "127.0.0.1:99999",
                "tcp:127.0.0.1:80,shiny",
                "127.0.0.1:80,mode=0600",
                "unix:x,mode=9",
            ],
        ),
        (
            "--ready",
            &[
                "soon", "", "delay", "delay=x", "fd", "fd=2", "fd=-1", "fd=x", "exec=1",
            ],
        ),
        ("--start-timeout", &["5", "", "soon", "-1s"]),
        ("--graceful-timeout", &["5", "off"]),
        ("--quick-timeout", &["5", "off"]),
        ("--graceful-signal", &["15", "NOSUCH", "STOP", "CONT", ""]),
        ("--quick-signal", &["NOSUCH", "SIGSTOP"]),
        ("--term", &["slow", ""]),
        ("--surge", &["x", "-1", "101%", "%", ""]),
        ("--canary", &["5", "x"]),
        ("--probation", &["5", "x", ""]),
        ("--reexec", &[""]),
        ("--start-failures", &["0", "x", "-1", "off"]),
        ("--backoff", &["1s", "2s..1s", "0s..1s", "..", "x..y"]),
        ("--give-up", &["0", "x", "-1"]),
        ("--fatal-exit", &["x", "256", "-1", "1,,2"]),
        ("--log-format", &["xml"]),
    ];
    let scene = Scene::new();
    for (option, values) in wrong {
        for value in values {
            let ended = scene
                .master("")
                .option(&format!("{option}={value}"), "--check")
                .run();
            assert_eq!(ended.code, Some(2), "{option} {value:?}: {ended:?}");
            assert!(
                ended.stderr.contains(option),
                "{option} {value:?}: {ended:?}"
            );
            assert!(
                ended.stdout.is_empty() && !ended.stderr.contains("panicked"),
                "{ended:?}"
            );
        }
    }
}

#[test]
fn contradicting_or_missing_options_are_usage_errors() {
    let scene = Scene::new();
    for (options, part) in [
        ("--no-control --control x.ctl", "--control"),
        ("-v -q", "-q"),
        ("--shiny", "--shiny"),
        ("operand", "operand"),
        ("--env", "--env"),
    ] {
        let ended = scene.master(options).run();
        assert_eq!(ended.code, Some(2), "{options}: {ended:?}");
        assert!(
            ended.stderr.contains(part) && ended.stdout.is_empty(),
            "{options}: {ended:?}"
        );
    }
    let none = scene.master("").command::<&str>([]).run();
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("COMMAND"), "{none:?}");
    for asked in ["--help", "--version"] {
        let ended = scene.master(asked).run().succeeded();
        assert!(
            ended.stdout.contains("pf-master") && ended.stderr.is_empty(),
            "{ended:?}"
        );
    }
    assert_eq!(scene.unread_reports(), []);
}

#[test]
fn an_address_in_use_is_logged_and_retried() {
    let scene = Scene::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let waiting = scene
        .master(&format!("-n 1 --ready fd=9 --listen {address}"))
        .spawn();
    waiting.wait_for_log(&address);
    drop(taken);
    waiting.ctl("wait --ready --timeout 60s").succeeded();
    waiting.stop();
}
