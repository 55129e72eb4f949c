//! kill -9 of either master at five moments of an upgrade: one master is left, with the names and
//! all workers, and no other process.

use nix::sys::signal::Signal;

use super::{ForkService, ends, family, pid_of};
use crate::common::service::master::Ctl;
use crate::common::service::scene::GATED;
use crate::common::service::scene_processes::children;
use crate::common::service::{Master, process, until};

/// Workers of the old release ignore the stop signal, and are killed at the graceful timeout.
const STUBBORN: &str = "trap '' TERM; say up; up; rest";

fn options(graceful_timeout: &str) -> String {
    format!("-n 2 --ready fd=9 --graceful-timeout {graceful_timeout} --listen 127.0.0.1:0")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The new master's program has not begun.
    Unborn,
    /// The new master is up, and none of its workers is ready.
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
fn at(moment: Moment, service: &ForkService) -> (Master, i32, Ctl) {
    service.scene.app(STUBBORN);
    // Where the chosen moment is their drain, the drain must last until the test has seen it and
    // killed the master.
    let patience = match moment {
        Moment::Moving | Moment::Draining => "6s",
        Moment::Unborn | Moment::Standing | Moment::Both => "1s",
    };
    let master = service
        .master(&format!(
            "-n 2 --ready fd=9 --graceful-timeout {patience} --listen 127.0.0.1:0"
        ))
        .start();
    service.scene.reports("up", 2);
    let before = children(master.pid());
    service.scene.app(GATED);
    if moment == Moment::Unborn {
        service.next(": >there; until [ -e go ]; do sleep 0.01; done");
    }
    let manual = if moment == Moment::Both {
        " --manual"
    } else {
        ""
    };
    let upgrade = master.start_ctl(&format!("upgrade --fork{manual}"));
    let new = match moment {
        Moment::Unborn => {
            until("it is about to begin", || {
                service.path("there").exists().then_some(())
            });
            let new = |pid: &i32| !before.contains(pid);
            children(master.pid())
                .into_iter()
                .find(new)
                .expect("it is there")
        }
        Moment::Standing => {
            service.scene.report("up");
            pid_of(&service.status())
        }
        Moment::Moving => {
            service.scene.report("up");
            service.scene.open_door(0);
            service.scene.report("up");
            until("slot 0 has moved", || {
                (service.old_status()["workers"]["retiring"] == 1).then_some(())
            });
            pid_of(&service.status())
        }
        Moment::Draining | Moment::Both => {
            service.scene.report("up");
            service.scene.open_door(0);
            service.scene.report("up");
            service.scene.open_door(1);
            let retiring = if moment == Moment::Both { 0 } else { 2 };
            until("all have moved", || {
                let new = service.status()["workers"]["ready"] == 2;
                (new && service.old_status()["workers"]["retiring"] == retiring).then_some(())
            });
            pid_of(&service.status())
        }
    };
    (master, new, upgrade)
}

#[test]
fn u19_the_new_master_is_killed_at_five_moments() {
    for moment in MOMENTS {
        let service = ForkService::new();
        let (master, new, upgrade) = at(moment, &service);
        service.scene.app(STUBBORN);
        process::signal(new, Signal::SIGKILL);
        if moment == Moment::Both {
            upgrade.end().succeeded();
        } else {
            upgrade.end().failed(1, &["killed by KILL"]);
        }
        let (pid, _) = family(&service.assert_one_master(2));
        assert_eq!(pid, master.pid(), "{moment:?}");
        // And the next one works.
        service.scene.app(crate::common::service::scene::RESTING);
        service.next("");
        service.ctl("upgrade --fork").succeeded();
        assert_ne!(pid_of(&service.assert_one_master(2)), pid, "{moment:?}");
        let log = master.log();
        assert!(!log.contains("which a worker left behind"), "{log}");
        service.stop();
    }
}

#[test]
fn u20_the_old_master_is_killed_at_five_moments() {
    for moment in MOMENTS {
        let service = ForkService::new();
        let (mut master, new, upgrade) = at(moment, &service);
        let op = (moment != Moment::Unborn).then(|| service.status()["rollout"]["op"].clone());
        // Workers that wait at a door continue, and later ones do not wait.
        service.scene.app(crate::common::service::scene::RESTING);
        master.signal(Signal::SIGKILL);
        assert_eq!(master.end(), None, "{moment:?}");
        if moment == Moment::Both {
            upgrade.end().succeeded();
        } else {
            upgrade.end().failed(3, &[]);
        }
        match moment {
            Moment::Unborn => std::fs::write(service.path("go"), "").expect("written"),
            Moment::Standing => service.scene.open_door(0),
            Moment::Moving => service.scene.open_door(1),
            Moment::Draining | Moment::Both => {}
        }
        let (pid, _) = family(&service.assert_one_master(2));
        assert_eq!(pid, new, "{moment:?}");
        // A client whose master died can ask the other one.
        if let Some(op) = op {
            let op = op.as_str().expect("a word");
            service.ctl(&format!("wait --op {op}")).succeeded();
        }
        service.next("");
        service.ctl("upgrade --fork").succeeded();
        assert_ne!(pid_of(&service.assert_one_master(2)), pid, "{moment:?}");
        service.stop();
    }
}

#[test]
fn both_masters_killed_leave_no_process() {
    let service = ForkService::new();
    let (mut master, new, _upgrade) = at(Moment::Both, &service);
    process::signal(new, Signal::SIGSTOP);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None);
    process::signal(new, Signal::SIGKILL);
    service.processes.gone();
    // And the next start finds its way.
    service.scene.app(crate::common::service::scene::RESTING);
    let mut next = service.master(&options("1s")).start();
    service.assert_one_master(2);
    service.ctl("stop").succeeded();
    ends(&mut next);
}
