//! kill -9 of the master, and of its guard, at every moment: no process of the service survives,
//! and the next start works (U25, R56, R57, S3).

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use nix::sys::signal::Signal;

use super::support::app;
use crate::common::service::master::address;
use crate::common::service::process::{self, descriptors};
use crate::common::service::scene_processes::{SceneProcesses, children, guard_of};
use crate::common::service::{Master, Scene, until};
use crate::common::support::{ports, skip};

/// The kinds of workers, by slot. 0 ignores every stop signal. 1 is a wrapper shell that did not
/// exec. 2 ignores TERM. 3 is a tree of three levels, of which only the leader ends by TERM. 4 is
/// stopped. Slot 0, and the program that the shell of slot 1 wraps, report each TERM.
const KINDS: &str = r#"
ready() { [ -n "$NEVER" ] || helper ready; }
case $((PF_WORKER % 5)) in
0) play "catch stubborn ${NEVER:-ready}";;
1) ready; helper catch; exit 3;;
2) trap '' TERM; ready; say born; exec sleep 1000;;
3) sh -c 'trap "" TERM; sh -c "sleep 1000" & sleep 1000' & ready; say born; wait;;
4) ready; say born; kill -STOP $$; rest;;
esac"#;

/// How often a leader may get the stop signal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Once each, by the kernel; what the leaders leave behind, by the guard.
    Once,
    /// The master had sent TERM already; the kernel's death signal repeats it.
    Twice,
}

/// The service that is to lose its master.
struct Doomed {
    scene: Scene,
    processes: SceneProcesses,
    master: Master,
    address: SocketAddr,
}

impl Doomed {
    /// Started with these workers, ready or not.
    #[track_caller]
    fn begun(body: &str, options: &str) -> Doomed {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        app(&scene, body);
        let options = format!(
            "-n 5 --ready notify --graceful-timeout 4s --backoff 1h..1h --listen 127.0.0.1:{} \
             {options}",
            ports(1)
        );
        let master = scene.master(&options).spawn();
        let address = address(&master.status(), 0);
        Doomed {
            scene,
            processes,
            master,
            address,
        }
    }

    /// Started with workers of all kinds, which are ready.
    #[track_caller]
    fn ready(options: &str) -> Doomed {
        let doomed = Doomed::begun(KINDS, options);
        doomed.master.ctl("wait --ready --timeout 60s").succeeded();
        doomed.scene.reports("catching", 2);
        doomed
    }

    /// Kills the master and waits until no process survives. Checks how often the reporting slots
    /// got TERM since they were ready.
    #[track_caller]
    fn kill(&mut self, told: Told) -> BTreeMap<u32, usize> {
        self.master.signal(Signal::SIGKILL);
        assert_eq!(self.master.end(), None, "killed");
        self.processes.gone();
        let mut times: BTreeMap<(u32, i32), usize> = BTreeMap::new();
        for report in self.scene.unread_reports() {
            if report.text == "got TERM" {
                *times.entry((report.slot, report.pid)).or_default() += 1;
            }
        }
        let most = if told == Told::Once { 1 } else { 2 };
        assert!(
            times.values().all(|times| *times <= most),
            "{times:?}\n{}",
            self.master.log()
        );
        times
            .into_iter()
            .map(|((slot, _), times)| (slot, times))
            .collect()
    }

    /// The port is free, and the next master starts where this one was.
    #[track_caller]
    fn next(self) {
        let Doomed {
            scene,
            processes,
            master,
            address,
        } = self;
        let free = TcpListener::bind(address);
        assert!(free.is_ok(), "{address}: {free:?}");
        drop(free);
        start_again(&scene, &format!("--listen {address}"), &master);
        processes.gone();
    }
}

#[track_caller]
fn start_again(scene: &Scene, options: &str, last: &Master) {
    scene.app(crate::common::service::scene::RESTING);
    let next = scene
        .master(&format!("-n 2 --ready fd=9 {options}"))
        .start();
    assert_ne!(next.pid(), last.pid());
    next.stop();
}

#[test]
fn u25_r56_killed_while_it_spawns_many() {
    for enough in [1, 4, 9, 20] {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        scene.app("sleep 1000");
        let options = "-n 32 --ready exec --graceful-timeout 1s --listen unix:app.sock";
        let mut master = scene.master(options).spawn();
        until("some workers are there", || {
            // One of its children is the guard.
            (children(master.pid()).len() > enough).then_some(())
        });
        master.signal(Signal::SIGKILL);
        assert_eq!(master.end(), None);
        processes.gone();
        start_again(&scene, "--listen unix:app.sock", &master);
    }
}

#[test]
fn u25_r56_killed_before_any_worker_is_ready() {
    let mut doomed = Doomed::begun(&format!("NEVER=never\n{KINDS}"), "");
    doomed.scene.reports("catching", 2);
    doomed.scene.reports("born", 3);
    assert_eq!(doomed.master.status()["state"], "starting");
    assert_eq!(doomed.kill(Told::Once), BTreeMap::from([(0, 1), (1, 1)]));
    doomed.next();
}

#[test]
fn u25_r56_r57_killed_when_all_are_ready() {
    let mut doomed = Doomed::ready("");
    until("the master, the guard, and whole trees", || {
        (doomed.processes.all().len() > 10).then_some(())
    });
    // The kernel signals the program in slot 0; the guard signals what the shell of slot 1 wraps.
    assert_eq!(doomed.kill(Told::Once), BTreeMap::from([(0, 1), (1, 1)]));
    doomed.next();
}

#[test]
fn u25_r56_killed_in_the_middle_of_a_rollout() {
    let mut doomed = Doomed::ready("--surge 2");
    app(&doomed.scene, &format!("NEVER=never\n{KINDS}"));
    let reload = doomed.master.start_ctl("reload");
    doomed.master.until("two more", |status| {
        status["state"] == "rolling"
            && status["starting"]
                .as_array()
                .is_some_and(|all| all.len() == 2)
    });
    doomed.scene.reports("catching", 2);
    doomed.kill(Told::Once);
    // A waiting client gets an error: the master died meanwhile.
    assert_eq!(reload.end().code, Some(3));
    doomed.next();
}

#[test]
fn u25_r56_killed_during_a_drain() {
    let mut doomed = Doomed::ready("--surge 100%");
    let reload = doomed.master.start_ctl("reload");
    assert_eq!(doomed.scene.report("got TERM").generation, 1);
    doomed.kill(Told::Twice);
    assert_eq!(reload.end().code, Some(3));
    doomed.next();
}

#[test]
fn u25_r56_killed_while_it_is_paused() {
    let mut doomed = Doomed::ready("");
    doomed.master.ctl("pause").succeeded();
    doomed.master.until("no worker is left", |status| {
        status["state"] == "paused" && status["workers"]["retiring"] == 0
    });
    assert_eq!(doomed.processes.all().len(), 2, "the master and the guard");
    doomed.kill(Told::Once);
    doomed.next();
}

#[test]
fn u25_r56_killed_while_slots_back_off() {
    let mut doomed = Doomed::ready("");
    let workers = doomed.master.workers();
    for worker in &workers[1..3] {
        process::signal(*worker, Signal::SIGKILL);
    }
    doomed
        .master
        .until("two rest", |status| status["workers"]["backoff"] == 2);
    doomed.kill(Told::Once);
    doomed.next();
}

#[test]
fn u25_r56_killed_while_it_stops() {
    let mut doomed = Doomed::ready("");
    doomed.master.signal(Signal::SIGTERM);
    doomed.scene.report("got TERM");
    doomed.kill(Told::Twice);
    doomed.next();
}

#[test]
fn u25_r56_killed_while_its_stop_is_delayed() {
    let mut doomed = Doomed::ready("--stop-delay 1h");
    doomed.master.signal(Signal::SIGTERM);
    doomed
        .master
        .until("announced", |status| status["state"] == "stopping");
    doomed.kill(Told::Once);
    doomed.next();
}

#[test]
fn u25_r57_killed_before_it_has_seen_that_a_worker_crashed() {
    for stopped in [true, false] {
        let mut doomed = Doomed::ready("");
        let workers = doomed.master.workers();
        if stopped {
            doomed.master.signal(Signal::SIGSTOP);
        }
        // Both leave others behind.
        process::signal(workers[1], Signal::SIGKILL);
        process::signal(workers[3], Signal::SIGKILL);
        doomed.kill(Told::Once);
        doomed.next();
    }
}

#[test]
fn u25_r56_a_new_guard_knows_all_workers() {
    let mut doomed = Doomed::ready("");
    let mut guard = guard_of(doomed.master.pid());
    for _ in 0..3 {
        process::signal(guard, Signal::SIGKILL);
        guard = until("there is another guard", || {
            let now = guard_of(doomed.master.pid());
            (now != guard).then_some(now)
        });
    }
    // One of its wards is replaced, which it learns too.
    doomed.master.ctl("restart-worker 2").succeeded();
    assert_eq!(guard_of(doomed.master.pid()), guard);
    assert_eq!(doomed.kill(Told::Once), BTreeMap::from([(0, 1), (1, 1)]));
    doomed.next();
}

#[test]
fn u25_the_guard_holds_no_descriptor_of_the_service() {
    let doomed = Doomed::ready("--listen unix:app.sock");
    let first = guard_of(doomed.master.pid());
    process::signal(first, Signal::SIGKILL);
    let second = until("there is another guard", || {
        let now = guard_of(doomed.master.pid());
        (now != first).then_some(now)
    });
    let open = descriptors(second);
    for (number, what) in &open {
        let expected = match number {
            0..3 => "/dev/null",
            3 => "socket",
            // Its handles on the workers.
            _ => r#"AnonInode("[pidfd]")"#,
        };
        assert_eq!(what, expected, "{open:?}");
    }
    // The one socket is neither a listener nor the control socket: it is an end of a pair, without
    // name.
    let inode = std::fs::read_link(format!("/proc/{second}/fd/3")).expect("it lives");
    let inode = inode.to_string_lossy().into_owned();
    let number = inode
        .trim_start_matches("socket:[")
        .trim_end_matches(']')
        .to_owned();
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("readable");
    let line = sockets
        .lines()
        .find(|line| line.split_whitespace().nth(6) == Some(&number))
        .unwrap_or_else(|| panic!("{inode} is a Unix socket"));
    let fields: Vec<&str> = line.split_whitespace().collect();
    // Flags: 00010000 is a listener; there is no path.
    assert_eq!((fields[3], fields.len()), ("00000000", 7), "{line}");
    assert_eq!(process::cwd(second), std::path::Path::new("/"));
    doomed.master.ctl("stop --timeout 60s").succeeded();
    doomed.processes.gone();
}

/// The kernel clears the parent-death signal of a process that changes its user.
#[test]
fn r54_the_guard_ends_a_worker_of_another_user() {
    if !nix::unistd::Uid::effective().is_root() {
        return skip("only root can become another user");
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let another = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    // Longer than any wait in this test.
    let mut master = scene
        .master("-n 1 --ready exec --graceful-timeout 1h")
        .command(another.iter().chain(&["sleep", "1000"]))
        .start();
    let worker = master.workers()[0];
    process::wait_for_sleep(worker);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None, "killed");
    process::gone(worker);
    processes.gone();
}

#[test]
fn p9_a_stop_by_force_kills_stubborn_workers() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    scene.app(
        "trap '' TERM INT; sh -c 'sleep 1000; exit' & up; say up; while :; do sleep 1000; done",
    );
    let mut master = scene
        .master(&format!(
            "-n 2 --ready fd=9 --graceful-timeout 1h --listen 127.0.0.1:{}",
            ports(1)
        ))
        .start();
    let at = address(&master.status(), 0);
    scene.reports("up", 2);
    let ended = master.ctl("stop --timeout 300ms --kill").succeeded();
    assert!(ended.stderr.contains("killed: process"), "{ended:?}");
    assert_eq!(master.end(), None, "killed");
    processes.gone();
    TcpListener::bind(at).expect("free again");
}

#[test]
fn p9_a_worker_may_stop_its_own_service_by_force() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let body = format!(
        "trap '' TERM; up; say up; {} stop {} --timeout 100ms --kill; rest",
        env!("CARGO_BIN_EXE_pf-ctl"),
        scene.path("app.pid").display()
    );
    scene.app(&body);
    let mut master = scene
        .master("-n 1 --ready fd=9 --graceful-timeout 1h")
        .spawn();
    assert_eq!(master.end(), None, "killed");
    processes.gone();
}
