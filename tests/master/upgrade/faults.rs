//! One system call of the master fails during an upgrade in place: the Nth of its kind, in the old
//! image or in the new one. The upgrade is done or refused, and the service goes on.
//!
//! By default a few are tried, other ones each time; `PF_FAULTS=all` tries all of them. What the
//! dynamic linker calls (openat, read, mmap, ...) and what the runtime of the language insists on
//! (rt_sigaction) is left out: an image that does not come to its main has nothing that could go
//! back.

use crate::common::fault::{self, Fault};
use crate::common::service::master::address;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene, process};
use crate::common::support::unavailable;

/// Each: a call, how it fails, and how many of them an upgrade makes at the most.
const CALLS: [(&str, &str, u64); 33] = [
    ("accept4", "EMFILE", 3),
    ("bind", "ENOMEM", 3),
    ("chdir", "EACCES", 2),
    ("clone", "EAGAIN", 4),
    ("epoll_create1", "EMFILE", 4),
    ("epoll_ctl", "ENOSPC", 20),
    ("execve", "ENOMEM", 1),
    ("execve", "EACCES", 1),
    ("fcntl", "EIO", 60),
    ("ftruncate", "EIO", 3),
    ("getdents64", "EIO", 10),
    ("getsockname", "ENOBUFS", 2),
    ("kill", "EPERM", 4),
    ("memfd_create", "EMFILE", 6),
    ("memfd_create", "ENOMEM", 6),
    ("pidfd_open", "EMFILE", 8),
    ("pidfd_send_signal", "EPERM", 8),
    ("pipe2", "EMFILE", 6),
    ("poll", "ENOMEM", 3),
    ("ppoll", "ENOMEM", 12),
    ("prctl", "EINVAL", 2),
    ("prlimit64", "EPERM", 14),
    ("pwrite64", "ENOSPC", 6),
    ("readlink", "EACCES", 10),
    ("recvfrom", "ENOMEM", 14),
    ("recvmsg", "ENOMEM", 10),
    ("sendmsg", "ENOBUFS", 5),
    ("sendto", "ENOBUFS", 8),
    ("socket", "EMFILE", 4),
    ("socketpair", "EMFILE", 2),
    ("statx", "ENOMEM", 20),
    ("waitid", "EINTR", 16),
    ("write", "EIO", 12),
];

/// How many are tried by default.
const SAMPLE: u64 = 12;

/// What is tried this time: a call, how it fails, and which of its kind.
fn chosen() -> Vec<(&'static str, &'static str, u64)> {
    let all: Vec<_> = CALLS
        .iter()
        .flat_map(|(call, error, most)| (1..=*most).map(move |nth| (*call, *error, nth)))
        .collect();
    if std::env::var("PF_FAULTS").is_ok_and(|which| which == "all") {
        return all;
    }
    // Another one each time; what was tried is in the message of a failure.
    let mut seed = prefork::sys::machine::clock::now().0;
    let random = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = usize::try_from(seed >> 33).expect("31 bits") % all.len();
        all[at]
    };
    (0..SAMPLE).map(random).collect()
}

#[test]
fn u34_a_call_that_fails_during_an_upgrade_ends_no_service() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 2 --ready exec --listen 127.0.0.1:0 --backoff 1ms..1ms")
        .command(["sleep", "1000"])
        .start();
    let at = address(&master.status(), 0);
    for (call, error, nth) in chosen() {
        let what = format!("{call} {error}, number {nth}");
        let before = master.status();
        let Some(fault) = Fault::begin(master.pid(), call, &format!("error={error}:when={nth}"))
        else {
            return unavailable("strace may not attach to another process");
        };
        let ended = master.ctl("upgrade --timeout 60s");
        drop(fault);
        let status = serves(&master, &what);
        assert_eq!(address(&status, 0), at, "{what}");
        let is_new = status["generation"].as_u64() > before["generation"].as_u64();
        match ended.code {
            Some(0) => assert!(is_new, "{what}: {ended:?}"),
            Some(1) => assert!(!is_new, "{what}: {ended:?}"),
            _ => panic!("{what}: {ended:?}\n{}", master.log()),
        }
    }
    super::upgrades(&master);
    master.stop();
    processes.gone();
}

/// The master lives, has its names, and all of its workers are ready.
#[track_caller]
fn serves(master: &Master, what: &str) -> serde_json::Value {
    assert!(process::alive(master.pid()), "{what}: {}", master.log());
    assert!(
        !master.log().contains("panicked"),
        "{what}: {}",
        master.log()
    );
    let told = master.ctl("pid").succeeded();
    assert_eq!(told.stdout, format!("{}\n", master.pid()), "{what}");
    assert_eq!(process::status(master.pid(), "SigBlk"), "0000000000000000");
    master.until(what, |status| {
        status["workers"]["ready"] == 2 && status["state"] == "running"
    })
}
