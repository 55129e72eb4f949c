//! Kills during an upgrade: of the client, of the checked child, of the master.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::{good_successor, successor, upgrades, with_successor};
use crate::common::service::scene_processes::{SceneProcesses, children};
use crate::common::service::{Scene, process, until};
use crate::common::support::ports;

const OPTIONS: &str = "-n 2 --ready fd=9 --graceful-timeout 1s --listen 127.0.0.1:0";

/// Where the master is killed.
const MOMENTS: [(&str, &str); 5] = [
    (
        "while its successor is checked",
        "[ -n \"$PF_UPGRADE_CHECK\" ] && { : >there; sleep 1000; }\n",
    ),
    (
        "before its successor has begun",
        "[ -n \"$PF_UPGRADE_CHECK\" ] || { : >there; read x <fifo; }\n",
    ),
    (
        "while it goes back",
        "[ -n \"$PF_UPGRADE_CHECK\" ] || { : >there; exec \"$0\" --no-such-option; }\n",
    ),
    (
        "while its successor takes over",
        "[ -n \"$PF_UPGRADE_CHECK\" ] || { : >there; exec \"$0\" \"$@\"; }\n",
    ),
    (
        "while its successor rolls",
        "[ -n \"$PF_UPGRADE_CHECK\" ] || exec \"$0\" \"$@\"\n",
    ),
];

#[test]
fn r56_a_master_killed_during_an_upgrade_leaves_no_process() {
    for (moment, body) in MOMENTS {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        let at = format!("127.0.0.1:{}", ports(1));
        let options = OPTIONS.replace("127.0.0.1:0", &at);
        let mut master = with_successor(&scene, &options).start();
        successor(&scene, &format!("{body}exec \"$0\" \"$@\"\n"));
        nix::unistd::mkfifo(&scene.path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let rolls = moment.ends_with("rolls");
        if rolls {
            scene.app("say rolling; rest");
        }
        let upgrade = master.start_ctl("upgrade");
        if rolls {
            scene.report("rolling");
        } else {
            until(moment, || scene.path("there").exists().then_some(()));
        }
        master.signal(Signal::SIGKILL);
        assert_eq!(master.end(), None, "{moment}");
        // Whether it had its answer is a race in the last moments but one; what it says is true.
        let told = upgrade.end();
        assert!(matches!(told.code, Some(3 | 1 | 0)), "{moment}: {told:?}");
        processes.gone();
        drop(TcpListener::bind(&at).expect("the port is free"));
        good_successor(&scene);
        scene.app(crate::common::service::scene::RESTING);
        let next = scene
            .master(&format!("-n 1 --ready fd=9 --listen {at}"))
            .start();
        next.stop();
        processes.gone();
    }
}

#[test]
fn a_killed_check_of_the_successor_refuses_the_upgrade() {
    let scene = Scene::new();
    let master = with_successor(&scene, OPTIONS).start();
    let known = children(master.pid());
    successor(&scene, ": >there; sleep 1000\n");
    let upgrade = master.start_ctl("upgrade");
    until("it is checked", || {
        scene.path("there").exists().then_some(())
    });
    let child = children(master.pid())
        .into_iter()
        .find(|pid| !known.contains(pid));
    process::signal(child.expect("the child"), Signal::SIGKILL);
    // What it had started has its descriptor, and goes with its group.
    upgrade.end().failed(1, &["successor"]);
    good_successor(&scene);
    upgrades(&master);
    master.stop();
}

#[test]
fn r4_a_killed_client_can_learn_the_outcome_later() {
    let scene = Scene::new();
    let master = scene.master(OPTIONS).start();
    scene.reports("up", 2);
    scene.app(crate::common::service::scene::GATED);
    let client = master.start_ctl("upgrade");
    scene.report("up");
    drop(client);
    let status = master.status();
    let op = status["rollout"]["op"].as_str().expect("it runs");
    let waiting = master.start_ctl(&format!("wait --op {op}"));
    scene.open_door(0);
    scene.report("up");
    scene.open_door(1);
    waiting.end().succeeded();
    assert_eq!(master.status()["rollout"]["kind"], "upgrade");
    master.stop();
}

#[test]
fn r57_the_guard_works_after_an_upgrade() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let mut master = scene.master(OPTIONS).start();
    let guard = crate::common::service::scene_processes::guard_of(master.pid());
    upgrades(&master);
    assert_eq!(
        crate::common::service::scene_processes::guard_of(master.pid()),
        guard,
        "the same one"
    );
    // The current image replaces a worker that died.
    process::signal(guard, Signal::SIGKILL);
    master.wait_for_log("the guard had died");
    scene.app("trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & up; say up; wait; rest");
    upgrades(&master);
    scene.reports("up", 2);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None);
    processes.gone();
}
