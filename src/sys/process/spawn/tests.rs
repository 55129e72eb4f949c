use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;

use super::strip::gaps;
use super::*;
use crate::model::signal::Signal;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;
use crate::sys::process::group::Group;
use crate::sys::process::wait::WaitStatus;
use crate::sys::process::wait::tests::await_end;
use crate::sys::signal::Signals;
use crate::sys::testing::{Peer, Talk};

const METHODS: [ForkMethod; 2] = [ForkMethod::SharedMemory, ForkMethod::CopiedMemory];

fn master() -> i32 {
    i32::try_from(std::process::id()).expect("a pid")
}

fn c(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

fn launch(words: &[&str]) -> Launch {
    Launch {
        program: c(words.first().expect("a program")),
        argv: words.iter().map(|word| c(word)).collect(),
        env: [("PATH", "/usr/bin:/bin"), ("K", "v")]
            .into_iter()
            .collect(),
        own_pid_in: vec!["LISTEN_PID"],
        cwd: Some(c("/")),
        leads: Leads::Session,
        death_signal: Some(Signal::Term),
        nofile: None,
    }
}

fn null() -> File {
    File::open("/dev/null").expect("/dev/null")
}

fn wait_for_outcome(spawned: &Spawned) -> SpawnOutcome {
    let fds = [(spawned.outcome.as_fd(), Interest::READ)];
    let mut about = false;
    let until = now() + crate::sys::testing::PATIENCE;
    while now() < until {
        Poller::new().wait(&fds, Some(until)).expect("poll");
        match read_outcome(spawned.outcome.as_fd(), &mut about) {
            SpawnOutcome::Pending => {}
            known => return known,
        }
    }
    SpawnOutcome::Pending
}

fn reap(pid: i32) -> WaitStatus {
    await_end(pid);
    crate::sys::process::wait::reap(pid)
        .expect("ours")
        .expect("ended")
}

/// Runs a program with a pipe as its stdout and `more` descriptors; returns its output and its pid.
fn output(method: ForkMethod, launch: &Launch, more: &[(BorrowedFd<'_>, RawFd)]) -> (String, i32) {
    let null = null();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
    let mut fds = vec![(write.as_fd(), 1)];
    fds.extend_from_slice(more);
    let plumbing = Plumbing {
        stdin: null.as_fd(),
        fds: &fds,
        guard: None,
        env: &[],
    };
    let spawned = spawn_by(method, launch, &plumbing, master()).expect("forked");
    assert_eq!(wait_for_outcome(&spawned), SpawnOutcome::Executed);
    drop(write);
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).expect("read");
    assert_eq!(reap(spawned.pid), WaitStatus::Exited(0), "{text}");
    (text, spawned.pid)
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
}

/// 40 times: sends a signal as soon as fork has returned, while the master's handlers are
/// installed.
pub fn play(talk: &mut Talk) {
    let mut signals = Signals::install().expect("handlers");
    let null = null();
    let plumbing = Plumbing {
        stdin: null.as_fd(),
        fds: &[],
        guard: None,
        env: &[],
    };
    let launch = launch(&["/bin/sleep", "60"]);
    for round in 0..40 {
        let method = if round % 8 < 4 {
            ForkMethod::SharedMemory
        } else {
            ForkMethod::CopiedMemory
        };
        let spawned = spawn_by(method, &launch, &plumbing, master()).expect("forked");
        let group = Group::of_child(spawned.pid).expect("a child");
        let (signal, number) = if round % 2 == 0 {
            (Signal::Term, 15)
        } else {
            (Signal::Hup, 1)
        };
        // To the group as well: it may not exist yet.
        let sent = if round % 4 < 2 {
            group.signal_leader(signal)
        } else {
            group.signal_group(signal)
        };
        assert!(sent.expect("sent"));
        let ended = WaitStatus::Signaled {
            signal: number,
            core: false,
        };
        assert_eq!(reap(spawned.pid), ended, "round {round}");
    }
    let caught = signals.pending();
    assert!(
        caught.iter().all(|(signal, _)| *signal == Signal::Chld),
        "{caught:?}"
    );
    talk.say("none lost");
}

#[test]
fn u28_a_signal_sent_at_once_after_the_fork_is_never_lost() {
    let mut peer = Peer::start("spawn-and-kill", &[]);
    assert_eq!(peer.talk.hear().as_deref(), Some("none lost"));
}

#[test]
fn u28_a_worker_starts_with_a_clean_signal_state() {
    for method in METHODS {
        let mask = signal::block_all();
        let (status, _) = output(method, &launch(&["/bin/cat", "/proc/self/status"]), &[]);
        signal::restore(mask);
        for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            assert_eq!(
                field(&status, name),
                "0000000000000000",
                "{method:?}, {name}"
            );
        }
    }
}

#[test]
fn u21_a_worker_has_the_descriptors_that_it_was_given_and_no_other() {
    METHODS.into_iter().for_each(it_has_its_descriptors);
}

fn it_has_its_descriptors(method: ForkMethod) {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |name: &str| File::create_new(dir.path().join(name)).expect("a file");
    let (one, two, three) = (open("one"), open("two"), open("three"));
    // Two descriptors that the master inherited without close-on-exec, in a gap and above.
    let stray = rustix::io::dup(&three).expect("a copy");
    let high = rustix::io::fcntl_dupfd_cloexec(&three, 200).expect("a copy");
    rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).expect("no close-on-exec");
    // Each target is the source of the other, so that a naive dup2 would lose one.
    let (a, b) = (one.as_raw_fd(), two.as_raw_fd());
    let more = [
        (one.as_fd(), b),
        (two.as_fd(), a),
        (three.as_fd(), a.max(b) + 40),
    ];
    let list = launch(&["/bin/ls", "-l", "/proc/self/fd"]);
    let (text, _) = output(method, &list, &more);
    let name = |name: &str| dir.path().join(name).display().to_string();
    let entries: Vec<(i32, String)> = text
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        // ls itself has the directory open that it lists.
        .filter(|(_, what)| !what.starts_with("/proc/"))
        .map(|(words, what)| {
            let fd = words.rsplit(' ').next().expect("a word");
            (fd.parse().expect("a number"), what.to_owned())
        })
        .collect();
    assert!(entries.contains(&(0, "/dev/null".into())), "{text}");
    let mut got: Vec<_> = entries.into_iter().filter(|(fd, _)| *fd > 2).collect();
    got.sort();
    let mut expected = vec![
        (b, name("one")),
        (a, name("two")),
        (a.max(b) + 40, name("three")),
    ];
    expected.sort();
    assert_eq!(got, expected, "{text}");
    drop((stray, high));
}

#[test]
fn a_worker_has_its_own_session_pid_directory_and_limits() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().canonicalize().expect("resolved");
    let mut launch = launch(&[
        "/bin/sh",
        "-c",
        "echo pid $$ $LISTEN_PID; echo cwd $(pwd -P); echo stat $(cat /proc/$$/stat); \
         echo soft $(ulimit -Sn); echo hard $(ulimit -Hn); echo K $K; echo all; env",
    ]);
    launch.cwd = CString::new(dir.as_os_str().as_encoded_bytes()).ok();
    launch.nofile = Some((100, 200));
    let (text, pid) = output(ForkMethod::for_this_machine(), &launch, &[]);
    assert_eq!(field(&text, "pid "), format!("{pid} {pid}"));
    assert_eq!(field(&text, "cwd "), dir.display().to_string());
    assert_eq!(field(&text, "soft "), "100");
    assert_eq!(field(&text, "hard "), "200");
    assert_eq!(field(&text, "K "), "v");
    let stat: Vec<&str> = field(&text, "stat ").split(' ').collect();
    let pid = pid.to_string();
    // Parent, group, session.
    assert_eq!(
        stat.get(3..6).expect("fields"),
        [&master().to_string(), &pid, &pid]
    );
}

#[test]
fn listen_pid_stands_only_where_it_is_asked_for() {
    let mut launch = launch(&["/usr/bin/env"]);
    let (text, pid) = output(ForkMethod::for_this_machine(), &launch, &[]);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let stamped = format!("LISTEN_PID={pid}");
    assert_eq!(lines, ["K=v", stamped.as_str(), "PATH=/usr/bin:/bin"]);
    launch.own_pid_in.clear();
    assert!(
        !output(ForkMethod::for_this_machine(), &launch, &[])
            .0
            .contains("LISTEN_PID")
    );
}

#[test]
fn a_failure_in_the_child_names_its_step() {
    let null = null();
    let plumbing = Plumbing {
        stdin: null.as_fd(),
        fds: &[],
        guard: None,
        env: &[],
    };
    let missing = launch(&["/no/such/program"]);
    let not_executable = launch(&["/etc/passwd"]);
    let mut nowhere = launch(&["/bin/true"]);
    nowhere.cwd = Some(c("/no/such/directory"));
    let mut unlimited = launch(&["/bin/true"]);
    unlimited.nofile = Some((2, 1));
    let failures = [
        (missing, SpawnStep::Exec, libc::ENOENT, 127),
        (not_executable, SpawnStep::Exec, libc::EACCES, 126),
        (nowhere, SpawnStep::Directory, libc::ENOENT, 126),
        (unlimited, SpawnStep::Limits, libc::EINVAL, 126),
    ];
    for method in METHODS {
        for (launch, step, errno, code) in &failures {
            let spawned = spawn_by(method, launch, &plumbing, master()).expect("forked");
            let failed = SpawnOutcome::Failed {
                step: *step,
                errno: *errno,
            };
            assert_eq!(wait_for_outcome(&spawned), failed, "{method:?}");
            assert_eq!(reap(spawned.pid), WaitStatus::Exited(*code), "{method:?}");
        }
    }
}

/// A child that shares our memory works while its caller goes on and frees what it was started
/// from.
#[test]
fn what_a_child_was_started_from_may_go_while_it_starts_and_its_memory_comes_back() {
    let null = null();
    for _ in 0..50 {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let launch = launch(&["/bin/sh", "-c", "echo $K $OWN"]);
        let own = vec![c("OWN=too")];
        let fds = [(write.as_fd(), 1)];
        let plumbing = Plumbing {
            stdin: null.as_fd(),
            fds: &fds,
            guard: None,
            env: &own,
        };
        let spawned =
            spawn_by(ForkMethod::SharedMemory, &launch, &plumbing, master()).expect("forked");
        drop((launch, own, write));
        // New allocations may reuse the memory where they were.
        let overwritten = vec![[b'x'; 64]; 64];
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        assert_eq!(text, "v too\n");
        assert_eq!(reap(spawned.pid), WaitStatus::Exited(0));
        drop(overwritten);
    }
    clone_vm::free_lent_memory();
    assert_eq!(clone_vm::lent_count(), 0);
}

#[test]
fn a_worker_of_a_master_that_has_died_does_not_start() {
    let null = null();
    let plumbing = Plumbing {
        stdin: null.as_fd(),
        fds: &[],
        guard: None,
        env: &[],
    };
    let launch = launch(&["/bin/sleep", "60"]);
    for method in METHODS {
        let spawned = spawn_by(method, &launch, &plumbing, master() + 1).expect("forked");
        assert_eq!(reap(spawned.pid), WaitStatus::Exited(126), "{method:?}");
    }
}

#[test]
fn gaps_lie_between_and_above_the_targets() {
    assert_eq!(gaps(&[0, 1, 2]), [(3, u32::MAX)]);
    assert_eq!(gaps(&[0, 1, 2, 2, 3, 7]), [(4, 6), (8, u32::MAX)]);
    assert_eq!(gaps(&[]), [(0, u32::MAX)]);
}
