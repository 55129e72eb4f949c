//! Signals that arrive while one image of the master becomes the next: each is obeyed, by the one
//! or by the other.

use nix::sys::signal::Signal;

use super::{successor, upgrades, with_successor};
use crate::common::fault::{self, Fault};
use crate::common::service::master::Ctl;
use crate::common::service::{Master, Scene, until};
use crate::common::support::unavailable;

const OPTIONS: &str = "-n 1 --ready fd=9 --quick-timeout 100ms";

/// What a signal means, once the upgrade goes on.
#[track_caller]
fn is_obeyed(mut master: Master, signal: Signal, upgrade: Ctl) {
    if signal == Signal::SIGHUP {
        upgrade.end().succeeded();
        master.until("the reload that follows is done", |status| {
            status["generation"] == 3 && status["state"] == "running"
        });
        return master.stop();
    }
    let ended = upgrade.end();
    assert_eq!(ended.code, Some(1), "{signal}: {ended:?}");
    assert_eq!(master.end(), Some(0), "{signal}: {}", master.log());
}

const SIGNALS: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGINT,
    Signal::SIGHUP,
];

#[test]
fn a_signal_that_arrives_between_the_images_is_obeyed_by_the_next() {
    for signal in SIGNALS {
        let scene = Scene::new();
        let master = with_successor(&scene, OPTIONS).start();
        nix::unistd::mkfifo(&scene.path("gate"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        // Held where the old image is gone, and the new one has not begun.
        successor(
            &scene,
            "[ -n \"$PF_UPGRADE_CHECK\" ] || { : >there; read x <gate; }\nexec \"$0\" \"$@\"\n",
        );
        let upgrade = master.start_ctl("upgrade");
        until("it is executed", || {
            scene.path("there").exists().then_some(())
        });
        master.signal(signal);
        std::fs::write(scene.path("gate"), "go\n").expect("opened");
        is_obeyed(master, signal, upgrade);
    }
}

#[test]
fn a_signal_that_arrives_while_the_state_is_written_is_obeyed() {
    if !fault::possible() {
        return;
    }
    for signal in SIGNALS {
        let scene = Scene::new();
        let master = scene.master(OPTIONS).start();
        let slow = "delay_enter=300ms";
        let Some(delay) = Fault::begin(master.pid(), "memfd_create", slow) else {
            return unavailable("strace may not attach to another process");
        };
        let upgrade = master.start_ctl("upgrade");
        // The state is written next; and if the signal came after that, no less is asked.
        master.wait_for_log("upgrade: executing");
        master.signal(signal);
        is_obeyed(master, signal, upgrade);
        drop(delay);
    }
}

#[test]
fn a_worker_that_ends_between_the_images_is_replaced() {
    let scene = Scene::new();
    let master = with_successor(&scene, OPTIONS).start();
    nix::unistd::mkfifo(&scene.path("gate"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    successor(
        &scene,
        "[ -n \"$PF_UPGRADE_CHECK\" ] || { : >there; read x <gate; }\nexec \"$0\" \"$@\"\n",
    );
    let worker = master.workers()[0];
    let upgrade = master.start_ctl("upgrade");
    until("it is executed", || {
        scene.path("there").exists().then_some(())
    });
    crate::common::service::process::signal(worker, Signal::SIGKILL);
    std::fs::write(scene.path("gate"), "go\n").expect("opened");
    upgrade.end().succeeded();
    master.wait_for_log(&format!(
        "worker {worker} of generation 1 was killed by KILL"
    ));
    std::fs::remove_file(scene.path("gate")).expect("our own");
    super::good_successor(&scene);
    upgrades(&master);
    master.stop();
}
