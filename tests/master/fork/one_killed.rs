//! kill -9 of either master at five moments of an upgrade: one is left in the end, with the names, all workers, and nobody else.

use nix::sys::signal::Signal;

use super::{Dance, ends, family, pid_of};
use crate::common::service::master::Ctl;
use crate::common::service::scene::GATED;
use crate::common::service::scene_processes::children;
use crate::common::service::{Master, process, until};

/// Workers of the old release do not go when they are told, and are killed at the graceful timeout.
const STUBBORN: &str = "trap '' TERM; say up; up; rest";

fn options(graceful_timeout: &str) -> String {
    format!("-n 2 --ready fd=9 --graceful-timeout {graceful_timeout} --listen 127.0.0.1:0")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The new master's program has not begun.
    Unborn,
    /// It stands, and none of its workers is ready.
    Standing,
    /// One slot has moved.
    Moving,
    /// All have, and the old workers drain.
    Draining,
    /// By hand: both serve with all.
    Both,
}

const MOMENTS: [Moment; 5] = [
    Moment::Unborn,
    Moment::Standing,
    Moment::Moving,
    Moment::Draining,
    Moment::Both,
];

/// Brings a service to this moment; its old master, the new one's pid, and the client that waits.
#[track_caller]
fn at(moment: Moment, dance: &Dance) -> (Master, i32, Ctl) {
    dance.scene.app(STUBBORN);
    // Where they drain in the moment that is meant, that has to last until it has been seen and made use of.
    let patience = match moment {
        Moment::Moving | Moment::Draining => "6s",
        Moment::Unborn | Moment::Standing | Moment::Both => "1s",
    };
    let master = dance
        .master(&format!(
            "-n 2 --ready fd=9 --graceful-timeout {patience} --listen 127.0.0.1:0"
        ))
        .start();
    dance.scene.heard_times("up", 2);
    let before = children(master.pid());
    dance.scene.app(GATED);
    if moment == Moment::Unborn {
        dance.next(": >there; until [ -e go ]; do sleep 0.01; done");
    }
    let manual = if moment == Moment::Both {
        " --manual"
    } else {
        ""
    };
    let upgrade = master.ctl_begun(&format!("upgrade --fork{manual}"));
    let new = match moment {
        Moment::Unborn => {
            until("it is about to begin", || {
                dance.path("there").exists().then_some(())
            });
            let new = |pid: &i32| !before.contains(pid);
            children(master.pid())
                .into_iter()
                .find(new)
                .expect("it is there")
        }
        Moment::Standing => {
            dance.scene.heard("up");
            pid_of(&dance.status())
        }
        Moment::Moving => {
            dance.scene.heard("up");
            dance.scene.open_door(0);
            dance.scene.heard("up");
            until("slot 0 has moved", || {
                (dance.old_status()["workers"]["retiring"] == 1).then_some(())
            });
            pid_of(&dance.status())
        }
        Moment::Draining | Moment::Both => {
            dance.scene.heard("up");
            dance.scene.open_door(0);
            dance.scene.heard("up");
            dance.scene.open_door(1);
            let retiring = if moment == Moment::Both { 0 } else { 2 };
            until("all have moved", || {
                let new = dance.status()["workers"]["ready"] == 2;
                (new && dance.old_status()["workers"]["retiring"] == retiring).then_some(())
            });
            pid_of(&dance.status())
        }
    };
    (master, new, upgrade)
}

#[test]
fn u19_the_new_master_is_killed_at_five_moments() {
    for moment in MOMENTS {
        let dance = Dance::new();
        let (master, new, upgrade) = at(moment, &dance);
        dance.scene.app(STUBBORN);
        process::signal(new, Signal::SIGKILL);
        if moment == Moment::Both {
            upgrade.end().done();
        } else {
            upgrade.end().failed(1, &["killed by KILL"]);
        }
        let (pid, _) = family(&dance.stands_alone(2));
        assert_eq!(pid, master.pid(), "{moment:?}");
        // And the next one works.
        dance.scene.app(crate::common::service::scene::RESTING);
        dance.next("");
        dance.ctl("upgrade --fork").done();
        assert_ne!(pid_of(&dance.stands_alone(2)), pid, "{moment:?}");
        dance.stop();
    }
}

#[test]
fn u20_the_old_master_is_killed_at_five_moments() {
    for moment in MOMENTS {
        let dance = Dance::new();
        let (mut master, new, upgrade) = at(moment, &dance);
        let op = (moment != Moment::Unborn).then(|| dance.status()["rollout"]["op"].clone());
        // Whoever waits at a door goes through, and whoever comes does not wait.
        dance.scene.app(crate::common::service::scene::RESTING);
        master.signal(Signal::SIGKILL);
        assert_eq!(master.end(), None, "{moment:?}");
        if moment == Moment::Both {
            upgrade.end().done();
        } else {
            upgrade.end().failed(3, &[]);
        }
        match moment {
            Moment::Unborn => std::fs::write(dance.path("go"), "").expect("written"),
            Moment::Standing => dance.scene.open_door(0),
            Moment::Moving => dance.scene.open_door(1),
            Moment::Draining | Moment::Both => {}
        }
        let (pid, _) = family(&dance.stands_alone(2));
        assert_eq!(pid, new, "{moment:?}");
        // Whoever has lost the one that was asked can ask the other.
        if let Some(op) = op {
            dance.ctl(&format!("wait --op {op}")).done();
        }
        dance.next("");
        dance.ctl("upgrade --fork").done();
        assert_ne!(pid_of(&dance.stands_alone(2)), pid, "{moment:?}");
        dance.stop();
    }
}

#[test]
fn both_masters_killed_leave_no_process() {
    let dance = Dance::new();
    let (mut master, new, _upgrade) = at(Moment::Both, &dance);
    process::signal(new, Signal::SIGSTOP);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None);
    process::signal(new, Signal::SIGKILL);
    dance.tracks.gone();
    // And the next start finds its way.
    dance.scene.app(crate::common::service::scene::RESTING);
    let mut next = dance.master(&options("1s")).start();
    dance.stands_alone(2);
    dance.ctl("stop").done();
    ends(&mut next);
}
