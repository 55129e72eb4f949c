//! As pid 1 of a pid namespace: orphans are reaped, and reused pids never cost another process a
//! signal (U7, R52, R99).

use std::path::Path;

use nix::sys::signal::Signal;

use super::support::lines;
use crate::common::namespace::{NAMESPACE, master_in, permitted};
use crate::common::service::process::{self, descendants};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Scene, until};
use crate::common::support::{is_thorough, unavailable};

#[test]
fn u7_r52_pid_1_reaps_a_thousand_orphans_and_stops_on_term() {
    if !permitted() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // Each is orphaned by the end of the subshell between; the last ones live on for a while.
    let body = r"i=0
while [ $i -lt 990 ]; do (: &); i=$((i + 1)); done
while [ $i -lt 1000 ]; do (sleep 0.5 &); i=$((i + 1)); done
say born; up; rest";
    scene.app(body);
    let mut unshare = scene
        .master("-v -n 1 --ready fd=9 --start-timeout off")
        .wrapped_in(NAMESPACE)
        .start();
    scene.report("born");
    let master = master_in(&unshare);
    assert_eq!(scene.text("app.pid"), "1\n");
    assert_eq!(unshare.status()["pid"], 1);
    until("no zombie is left", || {
        let family = descendants(master);
        // The worker that rests.
        (family.len() == 1 && family.iter().all(|(_, state)| *state != 'Z')).then_some(())
    });
    until("all are counted", || {
        let log = unshare.log();
        let counts = log.lines().filter_map(|line| {
            let (_, rest) = line.split_once("reaped ")?;
            let (count, _) = rest.split_once(" processes that are not workers")?;
            count.parse::<usize>().ok()
        });
        (counts.sum::<usize>() == 1000).then_some(())
    });
    assert_eq!(unshare.status()["counters"]["died"], 0);
    process::signal(master, Signal::SIGTERM);
    assert_eq!(unshare.end(), Some(0), "{}", unshare.log());
    processes.gone();
}

/// Lowers the pid limit of the namespace, starts a bystander whose processes end all the time, and
/// becomes the master. Each process of the bystander leads a group of its own, and reports when it
/// got a signal.
const CROWDED: &str = r#"echo 400 >/proc/sys/kernel/pid_max || { echo >refused; exit 77; }
bystander() {
    exec >/dev/null 2>&1
    while :; do
        setsid sh -c 'trap "echo $$ hit >>hits" TERM INT QUIT ABRT HUP CONT USR1; sleep 0.01; :'
        code=$?
        [ $code -lt 128 ] || echo "$code" >>hits
        echo >>lives
    done
}
bystander & bystander &
exec "$@""#;

#[test]
fn r99_reused_pids_never_get_foreign_signals() {
    if !permitted() {
        return;
    }
    let host = || std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let before = host();
    // Where it is not the namespace's own, nothing is tried: it would be the whole machine's.
    let own = std::process::Command::new(NAMESPACE[0])
        .args(&NAMESPACE[1..])
        .args([
            "sh",
            "-c",
            "cat /proc/sys/kernel/pid_max >/dev/null; uname -r",
        ])
        .output()
        .expect("it ran a moment ago");
    let release = String::from_utf8_lossy(&own.stdout).into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.trim().parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 14) {
        return unavailable(&format!("Linux {} has one pid_max for all", release.trim()));
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // Some leaders leave a child, whose group gets KILL when the leader has been reaped; other
    // leaders get the stop signal.
    scene.app("case $PF_WORKER in [0-5]) sleep 30 & exit 1;; 6) exec sleep 0.02;; esac");
    let mut wrapper: Vec<&str> = NAMESPACE.to_vec();
    wrapper.extend(["sh", "-c", CROWDED, "sh"]);
    let options = "-n 24 --ready exec --backoff 1ms..2ms --start-failures 1000000 --quiet";
    let mut unshare = scene.master(options).wrapped_in(wrapper).spawn();
    let refused = until("the control socket, or the end", || {
        if scene.path("app.ctl").exists() {
            return Some(false);
        }
        scene.path("refused").exists().then_some(true)
    });
    if refused {
        return unavailable("the namespace's pid_max cannot be lowered");
    }
    assert_eq!(host(), before, "the machine's own is as it was");
    let spawned = || {
        unshare.status()["counters"]["spawned"]
            .as_u64()
            .expect("a number")
    };
    let lives = || lines(&scene.path("lives")).len();
    // Until the numbers have been used up many times, by workers and by bystanders.
    let (wanted, mut count) = (if is_thorough() { 100_000 } else { 5_000 }, 0);
    while count < wanted || lives() < 50 {
        let before = count;
        count = until("the numbers come again", || {
            Some(spawned()).filter(|count| *count > before)
        });
    }
    assert_hits(&scene.path("hits"), count);
    assert!(!unshare.log().contains("panicked"), "{}", unshare.log());
    let master = master_in(&unshare);
    process::signal(master, Signal::SIGTERM);
    assert_eq!(unshare.end(), Some(0), "{}", unshare.log());
    assert_hits(&scene.path("hits"), count);
    processes.gone();
}

#[track_caller]
fn assert_hits(path: &Path, count: u64) {
    assert_eq!(lines(path), [""; 0], "after {count} workers");
}
