//! A master that does not answer, and what is asked of two masters at once.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{ForkService, OPTIONS, ends, family, pid_of};
use crate::common::service::scene::{GATED, RESTING};
use crate::common::service::{Master, process, until};

/// Later workers wait at a door. The reports of those that serve are read.
fn gate(service: &ForkService) {
    service.scene.reports("up", 2);
    service.scene.app(GATED);
}

#[test]
fn a_new_master_that_is_stopped_is_killed_and_the_old_one_goes_on() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    let before = family(&master.status());
    gate(&service);
    let upgrade = master.start_ctl("upgrade --fork");
    service.scene.report("up");
    let new = pid_of(&service.status());
    process::signal(new, Signal::SIGSTOP);
    upgrade.end().failed(1, &["has not answered for 10s"]);
    assert_eq!(family(&service.assert_one_master(2)), before);
    service.scene.app(RESTING);
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn an_old_master_that_is_stopped_is_killed_and_the_new_one_goes_on() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    gate(&service);
    let upgrade = master.start_ctl("upgrade --fork");
    service.scene.report("up");
    let new = pid_of(&service.status());
    master.signal(Signal::SIGSTOP);
    service.scene.app(RESTING);
    service.scene.open_door(0);
    upgrade.end().failed(3, &[]);
    assert_eq!(master.end(), None);
    assert_eq!(pid_of(&service.assert_one_master(2)), new);
    service.stop();
}

#[test]
fn a_stop_waits_for_a_master_that_is_stopped() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    gate(&service);
    let _upgrade = master.start_ctl("upgrade --fork");
    service.scene.report("up");
    process::signal(pid_of(&service.status()), Signal::SIGSTOP);
    service.old_ctl("stop").succeeded();
    ends(&mut master);
    service.processes.gone();
    for name in ["app.pid", "app.ctl", "app.pid.oldbin", "app.pid.oldbin.ctl"] {
        assert!(!service.path(name).exists(), "{name} is left");
    }
}

#[test]
fn operations_of_a_new_master_are_known_after_a_rollback() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    gate(&service);
    let upgrade = master.start_ctl("upgrade --fork");
    service.scene.report("up");
    let scale = service.ctl("scale 3 --no-wait").succeeded().stdout;
    let back = service.ctl("rollback --no-wait").succeeded().stdout;
    upgrade.end().failed(1, &["asked for by a rollback"]);
    service.assert_one_master(2);
    let waited = service.ctl(&format!("wait --op {}", back.trim_end()));
    assert!(waited.succeeded().stderr.contains("rolled back"));
    let scale = format!("wait --op {}", scale.trim_end());
    service.ctl(&scale).failed(1, &["undone"]);
    service.stop();
}

#[test]
fn a_drain_of_the_old_master_holds_up_only_another_fork() {
    let service = ForkService::new();
    // The worker stops to accept, and goes on as long as its client.
    let options = "-n 1 --ready fd=9 --graceful-timeout 60s --listen 127.0.0.1:0";
    let draining = "trap '' TERM; exec 3>&-; say up; up; rest";
    service.scene.app(draining);
    let mut master = service.master(options).start();
    service.scene.app(RESTING);
    service.ctl("upgrade --fork").succeeded();
    let old = service.old_status();
    assert_eq!(
        (&old["role"], &old["state"]),
        (&json!("old"), &json!("stopping"))
    );
    service.ctl("reload").succeeded();
    service.ctl("scale 2").succeeded();
    service
        .ctl("upgrade --fork")
        .failed(6, &["oldbin names process"]);
    service.old_ctl("reload").failed(6, &["only drains"]);
    service.old_ctl("wait --ready").failed(6, &["only drains"]);
    // The image that an upgrade in place executes knows of it too.
    service.ctl("upgrade").succeeded();
    assert_eq!(service.status()["workers"]["ready"], 2);
    assert_eq!(service.status()["role"], "new");
    let fork = service.ctl("upgrade --fork");
    fork.failed(6, &["oldbin names process"]);
    service.old_ctl("stop --now").succeeded();
    ends(&mut master);
    until("the names are free", || {
        (service.ctl("upgrade --fork").code == Some(0)).then_some(())
    });
    service.assert_one_master(2);
    service.stop();
}

/// A service whose old master drains beside the image that an upgrade in place of the new one has
/// executed: the old master.
fn drains_beside_upgraded_image(service: &ForkService) -> Master {
    let options = "-n 1 --ready fd=9 --graceful-timeout 60s --listen 127.0.0.1:0";
    service
        .scene
        .app("trap '' TERM; exec 3>&-; say up; up; rest");
    let master = service.master(options).start();
    service.scene.app(RESTING);
    service.ctl("upgrade --fork").succeeded();
    service.ctl("upgrade").succeeded();
    master
}

#[test]
fn a_stop_after_both_upgrades_is_one_of_both_masters() {
    let service = ForkService::new();
    let mut old = drains_beside_upgraded_image(&service);
    service.ctl("stop --now").succeeded();
    // It was told to stop, so it does not go back at the end of the new one.
    ends(&mut old);
    service.ctl("wait --gone").succeeded();
}

#[test]
fn an_old_master_is_the_service_again_once_the_upgraded_image_is_killed() {
    let service = ForkService::new();
    let old = drains_beside_upgraded_image(&service);
    process::signal(pid_of(&service.status()), Signal::SIGKILL);
    let status = service.until("the old master serves", |status| {
        status["pid"] == old.pid() && status["workers"]["ready"] == 1
    });
    assert_eq!(status["generation"], 1);
    service.ctl("stop --now").succeeded();
}
