//! Where the process counts: pid files and their locks, signals, permissions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::json;

use crate::common::support::copies::ForAnybody;
use crate::common::support::skip;

use super::fake::{Ended, HANG, Holder, Scene, ctl, ended};

const OK: &str = "{\"ok\":true,\"message\":\"stopping\"}\n";

#[test]
fn a_missing_target_is_exit_3_except_for_wait_gone() {
    let scene = Scene::new();
    let pid_file = scene.pid_file();
    let nowhere = pid_file.as_os_str();
    for line in [
        "reload",
        "stop",
        "stop --no-wait",
        "pid",
        "listeners",
        "signal TERM",
        "signal KILL",
        "wait --op=1",
    ] {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let args = [verb.as_ref(), nowhere]
            .into_iter()
            .chain(rest.split_whitespace().map(str::as_ref));
        ctl(args).failed(3, "not running: there is no ");
    }
    ctl(["wait".as_ref(), nowhere, "--gone".as_ref()]).succeeded();
}

#[test]
fn a_socket_without_listener_is_exit_3() {
    let scene = Scene::new();
    drop(std::os::unix::net::UnixListener::bind(scene.control()).expect("a socket"));
    ctl(["reload".as_ref(), scene.control().as_os_str()]).failed(3, "no process listens on");
    ctl(["stop".as_ref(), scene.control().as_os_str()]).failed(3, "no process listens on");
    ctl([
        "wait".as_ref(),
        scene.control().as_os_str(),
        "--gone".as_ref(),
    ])
    .succeeded();
}

#[test]
fn p8_u22_a_stale_pid_file_is_never_signalled() {
    let scene = Scene::new();
    // An unrelated process, whose pid is in a file that no process has locked.
    let mut innocent = Holder::start(&scene.dir().join("other.pid"));
    fs::write(scene.pid_file(), format!("{}\n", innocent.pid())).expect("a stale file");
    let pid_file = scene.pid_file();
    let target = pid_file.as_os_str();
    for line in [
        "stop --no-wait",
        "reload --no-wait",
        "signal TERM",
        "signal KILL",
        "signal HUP",
        "pid",
        "stop --timeout=1s --kill",
    ] {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let args = [verb.as_ref(), target]
            .into_iter()
            .chain(rest.split_whitespace().map(str::as_ref));
        ctl(args).failed(3, "stale");
    }
    ctl(["wait".as_ref(), target, "--gone".as_ref()]).succeeded();
    innocent.signal(Signal::SIGUSR2);
    assert_eq!(
        innocent.next_signal(),
        "SIGUSR2",
        "the first signal that it ever got"
    );
}

#[test]
fn u9_u11_u12_u13_u15_a_master_without_control_socket_gets_signals() {
    let scene = Scene::new();
    let mut master = Holder::start(&scene.pid_file());
    let pid_file = scene.pid_file();
    let cases = [
        ("reload T --no-wait", &["SIGHUP"][..]),
        ("stop T --no-wait", &["SIGQUIT"]),
        ("stop T --no-wait --now", &["SIGINT"]),
        ("pause T --no-wait", &["SIGWINCH"]),
        ("reopen T --no-wait", &["SIGUSR1"]),
        ("scale T +1 --no-wait", &["SIGTTIN"]),
        ("scale T -2 --no-wait", &["SIGTTOU", "SIGTTOU"]),
        ("scale T +0 --no-wait", &[]),
        ("signal T TERM", &["SIGTERM"]),
        ("signal T usr2", &["SIGUSR2"]),
    ];
    for (line, signals) in cases {
        let ended = ctl(line.split(' ').map(|word| {
            if word == "T" {
                pid_file.as_os_str()
            } else {
                word.as_ref()
            }
        }));
        ended.succeeded();
        assert_eq!(ended.stdout, "", "no operation, so no number");
        assert!(
            ended
                .stderr
                .contains(&format!("to process {}", master.pid())),
            "{ended:?}"
        );
        for signal in signals {
            assert_eq!(master.next_signal(), *signal, "{line}");
        }
    }
}

#[test]
fn signals_that_could_not_be_sent_are_reported() {
    let scene = Scene::new();
    let mut master = Holder::start(&scene.pid_file());
    master.signal(Signal::SIGSTOP);
    let pid_file = scene.pid_file();
    let scale = |more: &[&str]| {
        let words = ["scale"].map(std::ffi::OsStr::new);
        let more = more.iter().map(std::ffi::OsStr::new);
        ctl(words.into_iter().chain([pid_file.as_os_str()]).chain(more))
    };
    scale(&["+3", "--no-wait", "--timeout=300ms"]).failed(5, "only 1 TTIN could be sent");
    // The kernel throws the one away that waits: TTIN and TTOU are stop signals.
    master.signal(Signal::SIGCONT);
    scale(&["+2", "--no-wait"]).succeeded();
    assert_eq!(
        [master.next_signal(), master.next_signal()],
        ["SIGTTIN", "SIGTTIN"]
    );
}

#[test]
fn requests_without_a_signal_are_exit_6() {
    let scene = Scene::new();
    let mut master = Holder::start(&scene.pid_file());
    let pid_file = scene.pid_file();
    let cases = [
        ("reload T", "--no-wait sends HUP"),
        ("stop T", "--no-wait sends QUIT"),
        ("stop T --timeout 9s --kill", "--no-wait sends QUIT"),
        ("pause T", "--no-wait sends WINCH"),
        ("scale T +1", "--no-wait sends TTIN"),
        ("scale T +1000 --no-wait", "too many steps"),
        ("reopen T", "--no-wait sends USR1"),
        ("reload T --dry-run", "there is no signal for this"),
        ("rollback T --no-wait", "there is no signal for this"),
        ("resume T --no-wait", "there is no signal for this"),
        (
            "restart-worker T 0 --no-wait",
            "there is no signal for this",
        ),
        ("scale T 4 --no-wait", "there is no signal for this"),
        ("signal T HUP --workers", "there is no signal for this"),
        ("signal T HUP --slot 1", "there is no signal for this"),
        ("listeners T", "there is no signal for this"),
        ("wait T --op 3", "there is no signal for this"),
        ("wait T --ready", "there is no signal for this"),
    ];
    for (line, why) in cases {
        let ended = ctl(line.split(' ').map(|word| {
            if word == "T" {
                pid_file.as_os_str()
            } else {
                word.as_ref()
            }
        }));
        ended.failed(6, why);
        assert!(
            ended.stderr.contains("has no control socket at"),
            "{ended:?}"
        );
    }
    master.signal(Signal::SIGUSR2);
    assert_eq!(
        master.next_signal(),
        "SIGUSR2",
        "none of them sent anything"
    );
}

#[test]
fn pid_prints_the_owner_of_the_lock() {
    let scene = Scene::new();
    let master = Holder::start(&scene.pid_file());
    fs::write(scene.pid_file(), "1\n").expect("a lie");
    let ended = ctl(["pid".as_ref(), scene.pid_file().as_os_str()]);
    ended.succeeded();
    assert_eq!(ended.stdout, format!("{}\n", master.pid()));
    let ended = ctl([
        "pid".as_ref(),
        scene.pid_file().as_os_str(),
        "--json".as_ref(),
    ]);
    assert_eq!(
        ended.stdout,
        format!("{}\n", json!({"ok": true, "pid": master.pid()}))
    );
}

#[test]
fn pid_of_a_control_socket_is_that_of_its_listener() {
    let scene = Scene::new();
    let _listener =
        std::os::unix::net::UnixListener::bind(scene.control()).expect("a control socket");
    let ended = ctl(["pid".as_ref(), scene.control().as_os_str()]);
    ended.succeeded();
    assert_eq!(ended.stdout, format!("{}\n", std::process::id()));
}

#[test]
fn signals_to_a_silent_master_go_to_its_process() {
    let scene = Scene::new();
    let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, true);
    master.signal(Signal::SIGSTOP);
    ctl([
        "signal".as_ref(),
        scene.control().as_os_str(),
        "KILL".as_ref(),
    ])
    .succeeded();
    assert_eq!(master.ended_by(), Some(nix::libc::SIGKILL));
}

/// `pf-ctl` as the user nobody, which only root can start.
fn nobodys_ctl(args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Ended {
    let program = env!("CARGO_BIN_EXE_pf-ctl");
    let programs = ForAnybody::copy([program]);
    let mut command = Command::new(programs.of(program));
    let output = command.uid(65534).gid(65534).args(args).output();
    Ended::of(output.expect("pf-ctl starts"))
}

#[test]
fn no_permission_is_exit_4() {
    let scene = Scene::new();
    let _listener =
        std::os::unix::net::UnixListener::bind(scene.control()).expect("a control socket");
    fs::set_permissions(scene.control(), fs::Permissions::from_mode(0o0)).expect("chmod");
    fs::set_permissions(scene.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let target = scene.control();
    let args = ["reload".as_ref(), target.as_os_str()];
    let ended = if Uid::effective().is_root() {
        nobodys_ctl(args)
    } else {
        ctl(args)
    };
    ended.failed(4, "cannot connect to");
}

#[test]
fn a_signal_that_may_not_be_sent_is_exit_4() {
    if !Uid::effective().is_root() {
        return skip("only root can start a process of another user");
    }
    let scene = Scene::new();
    let mut master = Holder::start(&scene.pid_file());
    fs::set_permissions(scene.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let pid_file = scene.pid_file();
    let ended = nobodys_ctl(["signal".as_ref(), pid_file.as_os_str(), "TERM".as_ref()]);
    ended.failed(4, "cannot send TERM to process");
    master.signal(Signal::SIGUSR2);
    assert_eq!(master.next_signal(), "SIGUSR2");
}

#[test]
fn a_pid_file_that_would_block_is_refused() {
    let scene = Scene::new();
    nix::unistd::mkfifo(
        &scene.pid_file(),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .expect("a fifo");
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    command.arg("pid").arg(scene.pid_file());
    ended(command.timeout(HANG)).failed(2, "neither a pid file nor a control socket");
}
