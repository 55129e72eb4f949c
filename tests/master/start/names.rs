//! Pid file and control socket: what they say, whose they are, who may use them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::common::service::process::{alive, gone, signal};
use crate::common::service::{Ended, Master, Scene, end_of, until};
use crate::common::support::copies::ForAnybody;
use crate::common::support::skip;

const OPTIONS: &str = "-n 1 --ready fd=9";

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path)
        .expect("there")
        .permissions()
        .mode()
        & 0o7777
}

/// `pf-ctl`, as this user.
fn ctl_as(uid: u32, args: &[&Path]) -> Ended {
    let program = env!("CARGO_BIN_EXE_pf-ctl");
    let programs = ForAnybody::copy([program]);
    let mut command = Command::new(programs.of(program));
    command
        .uid(uid)
        .gid(uid)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command.output().expect("pf-ctl starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn u22_p1_the_pid_file_and_the_control_socket_beside_it() {
    let scene = Scene::new();
    let master = scene.master(OPTIONS).spawn();
    until("the pid file", || {
        scene.path("app.pid").exists().then_some(())
    });
    // It is complete when it appears, and the control socket answers by then.
    assert_eq!(scene.text("app.pid"), format!("{}\n", master.pid()));
    assert_eq!(mode(&scene.path("app.pid")), 0o644);
    let control = scene.path("app.ctl");
    assert!(
        fs::metadata(&control)
            .expect("there")
            .file_type()
            .is_socket()
    );
    assert_eq!(mode(&control), 0o600);
    assert_eq!(
        crate::common::service::Control::connect(&control)
            .expect("it listens")
            .status()["pid"],
        master.pid()
    );
    let left = fs::read_dir(scene.dir())
        .expect("a directory")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "no temporary file");
    master.stop();
}

#[test]
fn u22_a_pid_file_of_any_name_has_its_control_socket() {
    let scene = Scene::new();
    let mut master = scene.master(OPTIONS).names("--pid ./run").spawn();
    scene.report("up");
    assert!(scene.path("run.ctl").exists());
    let target = scene.path("run");
    let pid = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .arg("pid")
        .arg(&target)
        .output()
        .expect("pf-ctl");
    assert_eq!(
        String::from_utf8_lossy(&pid.stdout),
        format!("{}\n", master.pid())
    );
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end(), Some(0));
    assert!(!target.exists() && !scene.path("run.ctl").exists());
}

#[test]
fn u22_p8_a_stale_pid_file_is_replaced() {
    let scene = Scene::new();
    let first = scene.master(OPTIONS).start();
    let worker = scene.report("up").pid;
    first.signal(Signal::SIGKILL);
    until("it is killed", || (!alive(first.pid())).then_some(()));
    gone(worker);
    assert!(scene.path("app.pid").exists() && scene.path("app.ctl").exists());
    first.ctl("stop").failed(3, &["not running"]);
    drop(first);

    // An unrelated process has the pid that the file contains.
    let mut innocent = Command::new("sleep").arg("1000").spawn().expect("sleep");
    let pid = i32::try_from(innocent.id()).expect("a pid");
    fs::write(scene.path("app.pid"), format!("{pid}\n")).expect("written");
    let master = scene.master(OPTIONS).start();
    assert_eq!(scene.text("app.pid"), format!("{}\n", master.pid()));
    master.stop();
    assert!(alive(pid));
    signal(pid, Signal::SIGKILL);
    end_of(&mut innocent, "sleep");
}

#[test]
fn u22_of_concurrent_starts_one_wins() {
    let scene = Scene::new();
    for _ in 0..5 {
        let mut starts: Vec<Master> = (0..4).map(|_| scene.master(OPTIONS).spawn()).collect();
        let winner = scene.report("up");
        let owner: i32 = until("the pid file", || scene.text("app.pid").trim().parse().ok());
        let codes: Vec<Option<i32>> = starts
            .iter_mut()
            .filter(|master| master.pid() != owner)
            .map(Master::end)
            .collect();
        assert_eq!(codes, [Some(6), Some(6), Some(6)]);
        let mut winners = starts.into_iter().filter(|master| master.pid() == owner);
        winners.next().expect("one").stop();
        gone(winner.pid);
        assert_eq!(scene.unread_reports(), [], "one worker in all");
    }
}

#[test]
fn u22_only_our_own_names_are_removed() {
    let scene = Scene::new();
    let mut master = scene.master(OPTIONS).start();
    for name in ["app.pid", "app.ctl"] {
        fs::write(scene.path("other"), "another's\n").expect("written");
        fs::rename(scene.path("other"), scene.path(name)).expect("renamed");
    }
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end(), Some(0));
    assert_eq!(
        (
            scene.text("app.pid").as_str(),
            scene.text("app.ctl").as_str()
        ),
        ("another's\n", "another's\n")
    );
}

#[test]
fn unusable_paths_are_one_error_and_leave_nothing() {
    let scene = Scene::new();
    let dir = scene.dir().display().to_string();
    nix::unistd::mkfifo(&scene.path("fifo.pid"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    fs::create_dir(scene.path("dir.pid")).expect("a directory");
    fs::write(scene.path("file.ctl"), "precious").expect("a file");
    let long = format!("{dir}/{}.pid", "n".repeat(120));
    let cases = [
        ("--pid nowhere/app.pid".to_owned(), "/nowhere: No such file"),
        ("--pid fifo.pid".to_owned(), "fifo.pid"),
        ("--pid dir.pid".to_owned(), "dir.pid"),
        ("--pid file.pid".to_owned(), "file.ctl"),
        (format!("--pid {long}"), "nnn.ctl"),
        (
            "--control nowhere/x.ctl".to_owned(),
            "/nowhere: No such file",
        ),
        ("--control file.ctl".to_owned(), "file.ctl"),
    ];
    for (names, part) in cases {
        let ended = scene
            .master(OPTIONS)
            .names(&names)
            .run()
            .failed(111, &["pf-master: ", part]);
        assert_eq!(
            ended
                .stderr
                .lines()
                .filter(|line| line.contains("cannot"))
                .count(),
            1,
            "{ended:?}"
        );
    }
    assert_eq!(scene.text("file.ctl"), "precious");
    assert!(!scene.path("file.pid").exists() && !scene.path("app.pid").exists());
    assert_eq!(scene.unread_reports(), []);
}

#[test]
fn without_a_control_socket_there_are_signals() {
    let scene = Scene::new();
    let mut master = scene.master("-n 1 --ready fd=9 --no-control").spawn();
    let first = scene.report("up");
    assert!(!scene.path("app.ctl").exists());
    master
        .ctl("reload")
        .failed(6, &["has no control socket", "--no-wait sends HUP"]);
    master.wait_for_log("start done");
    master.ctl("reload --no-wait").succeeded();
    let second = scene.report("up");
    assert_eq!((second.slot, second.generation), (0, 2));
    gone(first.pid);
    master.ctl("scale +1 --no-wait").succeeded();
    assert_eq!(scene.report("up").slot, 1);
    assert_eq!(
        master.ctl("pid").succeeded().stdout,
        format!("{}\n", master.pid())
    );
    master.ctl("stop --no-wait").succeeded();
    assert_eq!(master.end(), Some(0));
    master.ctl("stop --no-wait").failed(3, &["not running"]);
}

#[test]
fn p1_the_control_socket_has_the_requested_mode_and_group() {
    let scene = Scene::new();
    let own = nix::unistd::getgid();
    let options = format!(
        "--control {},mode=0660,group={own}",
        scene.path("x.ctl").display()
    );
    let mut master = scene.master(OPTIONS).names(&options).spawn();
    scene.report("up");
    assert_eq!(mode(&scene.path("x.ctl")), 0o660);
    let target = scene.path("x.ctl");
    let asked = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .args(["stop", "-q"])
        .arg(&target)
        .status()
        .expect("pf-ctl");
    assert_eq!((asked.code(), master.end()), (Some(0), Some(0)));
    assert!(!target.exists());

    let wrong = scene
        .master(OPTIONS)
        .names("--control x.ctl,backlog=3")
        .run();
    wrong.failed(2, &["--control", "mode=, owner= and group="]);
    scene
        .master(OPTIONS)
        .names("--control 127.0.0.1:80")
        .run()
        .failed(2, &["--control", "Unix path"]);
}

#[test]
fn p2_another_user_is_let_in_by_the_mode_alone() {
    if !nix::unistd::Uid::effective().is_root() {
        return skip("only root can be another user");
    }
    let scene = Scene::new();
    fs::set_permissions(scene.dir(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let control = scene.path("app.ctl");
    let listeners: &[&Path] = &[Path::new("listeners"), &control];
    let master = scene.master(OPTIONS).start();
    let refused = ctl_as(65534, listeners);
    refused.failed(4, &["cannot connect to", "app.ctl"]);
    // A mode that was changed behind the master's back admits no one: the master checks the uid as
    // well.
    fs::set_permissions(&control, PermissionsExt::from_mode(0o666)).expect("chmod");
    let refused = ctl_as(65534, listeners);
    refused.failed(4, &["uid 65534 may not use this control socket"]);
    master.wait_for_log("of uid 65534 refused");
    drop(master);

    let open = format!(
        "--pid {} --control {},mode=0666",
        scene.path("app.pid").display(),
        control.display()
    );
    let master = scene.master(OPTIONS).names(&open).start();
    ctl_as(65534, listeners).succeeded();
    master.stop();
}
