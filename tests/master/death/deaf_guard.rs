//! A guard that could not read what the master has said: that is no end of the master.

use nix::sys::signal::Signal;

use crate::common::fault::{self, Fault};
use crate::common::service::scene_processes::{SceneProcesses, guard_of};
use crate::common::service::{Scene, process};
use crate::common::support::unavailable;

#[test]
fn u25_a_guard_that_cannot_read_ends_no_worker() {
    if !fault::possible() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene
        .master("-n 2 --ready fd=9 --graceful-timeout 50ms")
        .start();
    let before = master.workers();
    let guard = guard_of(master.pid());
    let Some(fault) = Fault::begin(guard, "recvmsg", "error=ENOMEM:when=1..3") else {
        return unavailable("tracing");
    };
    // Each new worker announces itself to the guard.
    master.ctl("scale 4").succeeded();
    master.ctl("scale 6").succeeded();
    drop(fault);
    // A guard that has taken the master for dead kills the others long before these are over.
    for _ in 0..20 {
        master.ctl("restart-worker 5").succeeded();
    }
    let status = master.status();
    assert_eq!(master.workers()[..2], before, "{status:#}");
    assert_eq!(status["counters"]["died"], 0, "{status:#}");
    assert_eq!(guard_of(master.pid()), guard, "the guard lives");
    // It has lost nothing of what it was told.
    process::signal(master.pid(), Signal::SIGKILL);
    processes.gone();
}
