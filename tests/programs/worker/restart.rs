//! A program that replaces itself, with no master above it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::examples::example;
use super::http::{Client, under_load};
use crate::common::load::Target;
use crate::common::service::{end_of, until};

/// The pid that the program answers with.
fn serving(target: &Target) -> Option<i32> {
    let answer = Client::of(target).get("who").ok()?;
    answer.text.rsplit(' ').next()?.parse().ok()
}

/// The worker in std, by the path `current/worker` in `dir`.
fn start(dir: &Path) -> (Child, Target) {
    fs::create_dir(dir.join("one")).expect("a directory");
    fs::create_dir(dir.join("two")).expect("a directory");
    for release in ["one", "two"] {
        crate::common::support::copies::copied(
            example("worker-std"),
            dir.join(release).join("worker"),
        );
    }
    symlink("one", dir.join("current")).expect("a link");
    let child = Command::new("./current/worker")
        .arg("unix:sock")
        .current_dir(dir)
        .env("PWD", dir)
        .env("KEPT", "yes")
        .stdin(Stdio::null())
        .spawn()
        .expect("started");
    let target = Target::Unix(dir.join("sock"));
    until("a listener", || serving(&target));
    (child, target)
}

/// It is ended in any case, and is no child of ours: so by its handle.
struct Successor(i32);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGTERM);
    }
}

fn of_proc(pid: i32, what: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default()
}

#[test]
fn g6_g7_usr2_starts_a_process_that_replaces_the_old() {
    let dir = tempfile::tempdir().expect("a directory");
    let real = fs::canonicalize(dir.path()).expect("a path");
    let (mut old, target) = start(&real);
    let old_pid = i32::try_from(old.id()).expect("a pid");
    let mut new_pid = None;
    let account = under_load(std::slice::from_ref(&target), |load| {
        load.more(20);
        // A new release: the symlink is followed again.
        fs::remove_file(real.join("current")).expect("ours");
        symlink("two", real.join("current")).expect("a link");
        kill(Pid::from_raw(old_pid), Signal::SIGUSR2).expect("sent");
        let status = end_of(&mut old, "the old one, which was told to finish");
        assert_eq!(status.code(), Some(0));
        load.more(20);
        new_pid = serving(&target);
    });
    assert!(account.lost.is_empty(), "{account:?}");
    let new = Successor(new_pid.expect("a server answers"));
    assert_ne!(new.0, old_pid);
    let program = fs::read_link(format!("/proc/{}/exe", new.0)).expect("a program");
    assert_eq!(program, real.join("two/worker"));
    assert_eq!(of_proc(new.0, "cmdline"), b"./current/worker\0unix:sock\0");
    let environment = of_proc(new.0, "environ");
    let has = |variable: &str| {
        environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable.as_bytes())
    };
    assert!(has("KEPT=yes") && has("LISTEN_FDS=1") && has(&format!("LISTEN_PID={}", new.0)));
    let cwd = fs::read_link(format!("/proc/{}/cwd", new.0)).expect("a directory");
    assert_eq!(cwd, real);
}

#[test]
fn g6_a_release_that_does_not_start_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let real = fs::canonicalize(dir.path()).expect("a path");
    let (mut old, target) = start(&real);
    let pid = i32::try_from(old.id()).expect("a pid");
    let account = under_load(std::slice::from_ref(&target), |load| {
        // It is executed, and fails.
        fs::remove_file(real.join("one/worker")).expect("ours");
        symlink("/bin/false", real.join("one/worker")).expect("a link");
        kill(Pid::from_raw(pid), Signal::SIGUSR2).expect("sent");
        load.more(20);
        // It is not there at all.
        fs::remove_file(real.join("current")).expect("ours");
        kill(Pid::from_raw(pid), Signal::SIGUSR2).expect("sent");
        load.more(20);
    });
    assert!(account.lost.is_empty(), "{account:?}");
    assert_eq!(serving(&target), Some(pid));
    // And it still can.
    symlink("two", real.join("current")).expect("a link");
    kill(Pid::from_raw(pid), Signal::SIGUSR2).expect("sent");
    assert_eq!(end_of(&mut old, "the old one").code(), Some(0));
    let new = Successor(until("a new one", || serving(&target)));
    assert_ne!(new.0, pid);
}
