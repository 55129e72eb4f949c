//! Stopping, and waiting for a master to come or to go.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use super::fake::{Ended, Holder, Scene, ctl, read_until};

const OK: &str = "{\"ok\":true,\"message\":\"stopping\"}\n";

#[test]
fn stop_returns_once_the_master_is_gone_or_zombie() {
    for by_pid_file in [true, false] {
        let scene = Scene::new();
        // It exits after its answer, and is not reaped before the stop has returned.
        let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, false);
        let target = if by_pid_file {
            scene.pid_file()
        } else {
            scene.control()
        };
        let ended = ctl(["stop".as_ref(), target.as_os_str()]);
        ended.succeeded();
        assert_eq!(ended.stderr, "pf-ctl: stop: stopping\npf-ctl: stopped\n");
        assert_eq!(master.ended_by(), None);
    }
}

#[test]
fn stop_is_exit_3_if_something_else_ends_the_master() {
    let scene = Scene::new();
    let _master = Holder::listening(&scene.pid_file(), &scene.control(), "", false);
    ctl(["stop".as_ref(), scene.pid_file().as_os_str()])
        .failed(3, "the master was ended by something else");
}

#[test]
fn stop_waits_for_the_master_also_if_something_of_the_service_is_left() {
    let scene = Scene::new();
    let reply =
        "{\"ok\":false,\"error\":{\"code\":\"failed\",\"message\":\"process 7 lives on\"}}\n";
    let mut master = Holder::listening(&scene.pid_file(), &scene.control(), reply, false);
    ctl(["stop".as_ref(), scene.pid_file().as_os_str(), "-q".as_ref()])
        .failed(1, "process 7 lives on");
    assert_eq!(master.ended_by(), None);
}

#[test]
fn a_wait_that_loses_its_master_does_not_reconnect() {
    let scene = Scene::new();
    let _master = Holder::listening(&scene.pid_file(), &scene.control(), "", false);
    let ended = ctl([
        "wait".as_ref(),
        scene.pid_file().as_os_str(),
        "--ready".as_ref(),
    ]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended
            .stderr
            .ends_with("the master died before it answered\n"),
        "{ended:?}"
    );
}

#[test]
fn a_refused_stop_is_an_error() {
    let scene = Scene::new();
    let reply = "{\"ok\":false,\"error\":{\"code\":\"permission\",\"message\":\"not you\"}}\n";
    let _master = Holder::listening(&scene.pid_file(), &scene.control(), reply, true);
    ctl(["stop".as_ref(), scene.pid_file().as_os_str()]).failed(4, "pf-ctl: stop: not you");
}

#[test]
fn stop_with_a_timeout_leaves_the_master_alone() {
    let scene = Scene::new();
    let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, true);
    let ended = ctl([
        "stop".as_ref(),
        scene.pid_file().as_os_str(),
        "--timeout=5s".as_ref(),
    ]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.ends_with(&format!(
        "not finished after 5s: process {} still runs\n",
        master.pid()
    )));
    master.signal(Signal::SIGUSR2);
    assert_eq!(master.next_signal(), "SIGUSR2", "it lives");
}

#[test]
fn p9_stop_asks_waits_and_then_kills() {
    let scene = Scene::new();
    let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, true);
    let begun = clock::now();
    let ended = ctl([
        "stop".as_ref(),
        scene.pid_file().as_os_str(),
        "--timeout=300ms".as_ref(),
        "--kill".as_ref(),
    ]);
    let took = clock::now().since(begun);
    ended.succeeded();
    assert!(ended.stderr.contains("killed"), "{ended:?}");
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(40),
        "{took:?}"
    );
    assert_eq!(master.ended_by(), Some(nix::libc::SIGKILL));
}

#[test]
fn p9_a_silent_master_is_killed_too() {
    for by_pid_file in [true, false] {
        let scene = Scene::new();
        let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, true);
        master.signal(Signal::SIGSTOP);
        let target = if by_pid_file {
            scene.pid_file()
        } else {
            scene.control()
        };
        ctl([
            "stop".as_ref(),
            target.as_os_str(),
            "--timeout=200ms".as_ref(),
            "--kill".as_ref(),
        ])
        .succeeded();
        assert_eq!(master.ended_by(), Some(nix::libc::SIGKILL));
    }
}

#[test]
fn wait_gone_ends_with_the_process_and_not_before() {
    for by_pid_file in [true, false] {
        let scene = Scene::new();
        let mut master = Holder::listening(&scene.pid_file(), &scene.control(), OK, true);
        let target = if by_pid_file {
            scene.pid_file()
        } else {
            scene.control()
        };
        ctl([
            "wait".as_ref(),
            target.as_os_str(),
            "--gone".as_ref(),
            "--timeout=4s".as_ref(),
            "-q".as_ref(),
        ])
        .failed(5, "still runs");
        // Asked again while it lives; it is killed once the wait has said that it waits.
        let mut child = start(["wait".as_ref(), target.as_os_str(), "--gone".as_ref()]);
        let stderr = child.stderr.as_mut().expect("piped");
        read_until(stderr, |text| {
            text.ends_with(&format!("waiting for process {}\n", master.pid()))
        });
        master.signal(Signal::SIGKILL);
        let ended = Ended::of(child.wait_with_output().expect("it ends"));
        ended.succeeded();
        assert_eq!(master.ended_by(), Some(nix::libc::SIGKILL));
    }
}

#[test]
fn a_master_that_is_ending_counts_as_not_running() {
    crate::common::service::until("it goes just then", || {
        let scene = Scene::new();
        let master = Holder::start(&scene.pid_file());
        let child = start(["reload".as_ref(), scene.pid_file().as_os_str()]);
        drop(master);
        let ended = Ended::of(child.wait_with_output().expect("it ends"));
        // It has gone too late where it is refused, for a control socket that it does not have.
        if ended.code == Some(6) {
            return None;
        }
        ended.failed(3, "not running");
        Some(())
    });
}

#[test]
fn wait_ready_waits_for_a_master_to_appear() {
    let scene = Scene::new();
    fs::write(scene.pid_file(), "1\n").expect("a stale file");
    let mut child = start([
        "wait".as_ref(),
        scene.pid_file().as_os_str(),
        "--ready".as_ref(),
    ]);
    read_until(child.stderr.as_mut().expect("piped"), |text| {
        text.ends_with("waiting for the master to appear\n")
    });
    // The pid file's lock is taken once the control socket listens.
    let _master = Holder::listening(
        &scene.pid_file(),
        &scene.control(),
        "{\"ok\":true,\"message\":\"all ready\"}\n",
        true,
    );
    let ended = Ended::of(child.wait_with_output().expect("it ends"));
    ended.succeeded();
    assert!(ended.stderr.ends_with("pf-ctl: all ready\n"), "{ended:?}");
}

#[test]
fn wait_ready_of_a_dying_master_is_exit_3() {
    let scene = Scene::new();
    let master = scene.answer("");
    let ended = ctl([
        "wait".as_ref(),
        scene.control().as_os_str(),
        "--ready".as_ref(),
        "-q".as_ref(),
    ]);
    ended.failed(3, "the master died");
    master.end();
}

fn start<const N: usize>(args: [&std::ffi::OsStr; N]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pf-ctl starts")
}
