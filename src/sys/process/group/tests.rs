use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::sys::process::wait::tests::await_end;

/// Starts a shell that leads a session of its own; returns it with the first line that it prints.
fn leader(script: &str) -> (Child, String) {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    // SAFETY: setsid is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
    let mut child = command.spawn().expect("sh runs");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    (child, line.trim().to_owned())
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a pid")
}

#[test]
fn r99_a_group_is_reached_after_its_leader_was_reaped_and_never_after_its_end() {
    // Orphans go to pid 1 here, as this process is no subreaper: only signals show that they live.
    let (child, rest) = leader("sleep 60 >/dev/null & echo $!; exit 5");
    let rest: i32 = rest.parse().expect("a pid");
    let mut group = Group::of_child(pid(&child)).expect("a child");
    assert_eq!(await_end(group.leader()), WaitStatus::Exited(5));
    assert!(group.signal_group(Signal::Cont).expect("sent"));
    assert_eq!(group.reap().expect("ours"), Some(WaitStatus::Exited(5)));
    assert!(group.reap().is_err());

    assert!(
        matches!(group.state, LeaderState::Reaped(Some(_))),
        "by its pidfd"
    );
    assert!(!group.is_empty());
    assert!(!group.signal_leader(Signal::Term).expect("no error"));
    let pidfd = pidfd_open(
        rustix::process::Pid::from_raw(rest).expect("a pid"),
        PidfdFlags::empty(),
    )
    .expect("the rest lives");
    assert!(group.signal_group(Signal::Kill).expect("sent"));
    let ended = crate::sys::process::pidfd::pidfd_wait(
        &pidfd,
        Some(crate::sys::machine::clock::now() + crate::sys::testing::PATIENCE),
    );
    assert!(ended.expect("waited"), "the rest has ended");
    assert!(group.is_empty());
    // The number is free now, and its next owner is not ours: the pidfd names the old group alone.
    if let LeaderState::Reaped(Some(pidfd)) = &group.state {
        let sent = delivery_of(pidfd_signal_group(pidfd, libc::SIGKILL)).expect("no error");
        // Until pid 1 has reaped it, the rest is a zombie of the group.
        let zombie = fs::read_to_string(format!("/proc/{rest}/stat"))
            .is_ok_and(|stat| stat.contains(") Z "));
        assert!(zombie || sent == Delivery::NoProcess, "{sent:?}");
    }
}

#[test]
fn r99_a_reused_number_is_never_hit() {
    // The number is reused on purpose (ns_last_pid, root only): the new owner is of another group.
    let (child, _) = leader("echo up");
    let mut group = Group::of_child(pid(&child)).expect("a child");
    let number = group.leader();
    await_end(number);
    let raw = rustix::process::Pid::from_raw(number).expect("a pid");
    let kept = pidfd_open(raw, PidfdFlags::empty()).expect("a pidfd");
    group.reap().expect("ours").expect("ended");
    let next = std::path::Path::new("/proc/sys/kernel/ns_last_pid");
    for _ in 0..500 {
        if fs::write(next, (number - 1).to_string()).is_err() {
            return crate::sys::testing::unavailable("no pid can be had again");
        }
        let (mut other, _) = leader("echo up; exec sleep 60");
        let again = pid(&other) == number;
        if again {
            assert_eq!(pidfd_signal_group(&kept, libc::SIGKILL), Err(Errno::ESRCH));
            group.state = LeaderState::Reaped(Some(kept.try_clone().expect("a copy")));
            assert!(!group.signal_group(Signal::Kill).expect("no error"));
            assert!(wait::peek(number).expect("our child").is_none(), "alive");
        }
        other.kill().expect("ours");
        other.wait().expect("ours");
        if again {
            return;
        }
    }
    panic!("the number {number} never came back");
}

#[test]
fn without_a_pidfd_a_live_member_proves_the_number() {
    let (child, rest) = leader("sleep 60 >/dev/null & echo $!");
    let rest: i32 = rest.parse().expect("a pid");
    let mut group = Group::of_child(pid(&child)).expect("a child");
    await_end(group.leader());
    group.reap().expect("ours").expect("ended");
    group.state = LeaderState::Reaped(None);
    assert!(!group.is_empty());
    let raw = rustix::process::Pid::from_raw(rest).expect("a pid");
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).expect("the rest lives");
    assert!(group.signal_group(Signal::Kill).expect("sent"));
    let limit = crate::sys::machine::clock::now() + crate::sys::testing::PATIENCE;
    assert!(crate::sys::process::pidfd::pidfd_wait(&pidfd, Some(limit)).expect("waited"));
    assert!(group.is_empty());
    assert!(!group.signal_group(Signal::Kill).expect("no error"));
}

#[test]
fn a_group_of_zombies_is_empty() {
    let (child, _) = leader("echo up");
    let mut group = Group::of_child(pid(&child)).expect("a child");
    await_end(group.leader());
    assert!(group.is_empty(), "only the unreaped leader is left");
    group.reap().expect("ours").expect("ended");
    assert!(group.is_empty());
    assert!(!group.signal_group(Signal::Kill).expect("no error"));
}

#[test]
fn numbers_that_mean_everybody_are_refused() {
    for number in [1, 0, -1, i32::MIN] {
        assert!(Group::of_child(number).is_err());
    }
}

#[test]
fn members_are_told_by_group_session_state_and_threads() {
    let line = |state: &str, group: i32, session: i32, threads: i32| {
        format!("7 (a) b) {state} 1 {group} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 9")
    };
    assert!(is_live_member(&line("S", 7, 7, 1), 7, 7));
    assert!(!is_live_member(&line("S", 8, 7, 1), 7, 7));
    assert!(!is_live_member(&line("S", 7, 8, 1), 7, 7));
    assert!(is_live_member(&line("S", 7, 8, 1), 7, 8));
    assert!(!is_live_member(&line("Z", 7, 7, 1), 7, 7));
    assert!(is_live_member(&line("Z", 7, 7, 2), 7, 7));
    for garbage in ["", "7", "7 (x)", "7 (x) S", "7 (x) S a b c"] {
        assert!(!is_live_member(garbage, 7, 7));
    }
}
