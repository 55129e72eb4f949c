//! An upgrade by fork before the new master is ready: the old master serves, under its `.oldbin`
//! names.

use std::path::PathBuf;

use super::{ForkService, OPTIONS, ends, family};
use crate::common::service::{Control, process, until};

/// A next master that hangs, and the old one beside it.
fn hanging(service: &ForkService) -> i32 {
    service.next("echo begun >>\"$PF_TEST_SAY.begun\"; exec sleep 1000");
    let old = family(&service.status()).0;
    service.ctl("upgrade --fork --no-wait").succeeded();
    until("the new one has begun", || {
        service.path("say.begun").exists().then_some(())
    });
    assert!(!service.path("app.pid").exists());
    old
}

/// A next master that waits until a line is written to this.
fn gated(service: &ForkService) -> PathBuf {
    let gate = service.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    service.next(&format!("read line <{}", gate.display()));
    gate
}

#[test]
fn u16_tools_find_the_old_master_by_its_usual_names() {
    let service = ForkService::new();
    let _master = service.master(OPTIONS).start();
    let old = hanging(&service);
    for name in ["app.pid", "app.ctl"] {
        let path = service.path(name);
        let told = super::output(env!("CARGO_BIN_EXE_pf-status"), [path.as_os_str()]).succeeded();
        assert!(
            told.stdout.contains(&old.to_string()),
            "{name}: {}",
            told.stdout
        );
    }
    let told = service.ctl("pid").succeeded();
    assert_eq!(told.stdout, format!("{old}\n"));
    service.ctl("reload").failed(6, &["upgrade"]);
    service.ctl("rollback").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn r2_workers_of_a_failed_new_master_end() {
    let service = ForkService::new();
    let _master = service.master(OPTIONS).start();
    service.next("echo begun >>\"$PF_TEST_SAY.begun\"; (sleep 1000; true) & sleep 1000; exit");
    service.ctl("upgrade --fork --no-wait").succeeded();
    until("the new one has begun", || {
        service.path("say.begun").exists().then_some(())
    });
    service
        .ctl("scale 3")
        .failed(6, &["(upgrade) is under way"]);
    service.ctl("rollback").succeeded();
    // No other process is left that holds the listeners.
    service.assert_one_master(2);
    service.next("sleep 1000; exit");
    service.ctl("upgrade --fork --no-wait").succeeded();
    service.stop();
}

#[test]
fn r2_a_stop_ends_a_new_master_that_hangs() {
    let service = ForkService::new();
    let _master = service.master(OPTIONS).start();
    hanging(&service);
    // Every process that holds the listeners.
    service.stop();
}

#[test]
fn u20_quit_to_the_old_master_waits_for_the_new() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    let gate = gated(&service);
    master.signal(nix::sys::signal::Signal::SIGUSR2);
    until("the names are given away", || {
        (!service.path("app.pid").exists()).then_some(())
    });
    master.signal(nix::sys::signal::Signal::SIGQUIT);
    until("its workers are gone", || {
        let status = service.old_status();
        (status["state"] == "stopping" && status["workers"]["ready"] == 0).then_some(())
    });
    std::fs::write(&gate, "go\n").expect("let in");
    assert_eq!(master.end(), Some(0));
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn r1_wait_ready_follows_to_the_new_master() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    service.scene.reports("up", 2);
    let gate = gated(&service);
    let (pid, workers) = family(&master.status());
    let upgrade = master.start_ctl("upgrade --fork");
    until("the names are given away", || {
        (!service.path("app.pid").exists()).then_some(())
    });
    // The old one will not be ready any more.
    service.scene.app("say up; rest");
    process::signal(workers[0], nix::sys::signal::Signal::SIGKILL);
    service.scene.report("up");
    let mut control =
        Control::connect(&service.path("app.pid.oldbin.ctl")).expect("the old one listens");
    assert_eq!(control.status()["workers"]["ready"], 1);
    let open = || process::descriptors(pid).len();
    let before = open();
    let waiting = master.start_ctl("wait --ready");
    until("it waits at the old one", || {
        (open() > before).then_some(())
    });
    drop(control);
    service.scene.app("up; rest");
    std::fs::write(&gate, "go\n").expect("let in");
    upgrade.end().succeeded();
    ends(&mut master);
    waiting.end().succeeded();
    service.assert_one_master(2);
    service.stop();
}
