//! An upgrade by fork whose new master has not said yet that it stands: the service is the old one, under its `.oldbin` names.

use std::path::PathBuf;

use super::{Dance, OPTIONS, ends, family};
use crate::common::service::{Control, process, until};

/// A next master that hangs, and the old one beside it.
fn hanging(dance: &Dance) -> i32 {
    dance.next("echo begun >>\"$PF_TEST_SAY.begun\"; exec sleep 1000");
    let old = family(&dance.status()).0;
    dance.ctl("upgrade --fork --no-wait").done();
    until("the new one has begun", || {
        dance.path("say.begun").exists().then_some(())
    });
    assert!(!dance.path("app.pid").exists());
    old
}

/// A next master that waits until a line is written to this.
fn gated(dance: &Dance) -> PathBuf {
    let gate = dance.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    dance.next(&format!("read line <{}", gate.display()));
    gate
}

#[test]
fn u16_tools_find_the_old_master_by_its_usual_names() {
    let dance = Dance::new();
    let _master = dance.master(OPTIONS).start();
    let old = hanging(&dance);
    for name in ["app.pid", "app.ctl"] {
        let path = dance.path(name);
        let told = super::output(env!("CARGO_BIN_EXE_pf-status"), [path.as_os_str()]).done();
        assert!(
            told.stdout.contains(&old.to_string()),
            "{name}: {}",
            told.stdout
        );
    }
    let told = dance.ctl("pid").done();
    assert_eq!(told.stdout, format!("{old}\n"));
    dance.ctl("reload").failed(6, &["upgrade"]);
    dance.ctl("rollback").done();
    dance.stands_alone(2);
    dance.stop();
}

#[test]
fn r2_workers_of_a_failed_new_master_end() {
    let dance = Dance::new();
    let _master = dance.master(OPTIONS).start();
    dance.next("echo begun >>\"$PF_TEST_SAY.begun\"; (sleep 1000; true) & sleep 1000; exit");
    dance.ctl("upgrade --fork --no-wait").done();
    until("the new one has begun", || {
        dance.path("say.begun").exists().then_some(())
    });
    dance.ctl("scale 3").failed(6, &["(upgrade) is under way"]);
    dance.ctl("rollback").done();
    // Nobody else is left, with the listeners in his hands.
    dance.stands_alone(2);
    dance.next("sleep 1000; exit");
    dance.ctl("upgrade --fork --no-wait").done();
    dance.stop();
}

#[test]
fn r2_a_stop_ends_a_new_master_that_hangs() {
    let dance = Dance::new();
    let _master = dance.master(OPTIONS).start();
    hanging(&dance);
    // All of it, whoever it is: with the listeners.
    dance.stop();
}

#[test]
fn u20_quit_to_the_old_master_waits_for_the_new() {
    let dance = Dance::new();
    let mut master = dance.master(OPTIONS).start();
    let gate = gated(&dance);
    master.signal(nix::sys::signal::Signal::SIGUSR2);
    until("the names are given away", || {
        (!dance.path("app.pid").exists()).then_some(())
    });
    master.signal(nix::sys::signal::Signal::SIGQUIT);
    until("its workers are gone", || {
        let status = dance.old_status();
        (status["state"] == "stopping" && status["workers"]["ready"] == 0).then_some(())
    });
    std::fs::write(&gate, "go\n").expect("let in");
    assert_eq!(master.end(), Some(0));
    dance.stands_alone(2);
    dance.stop();
}

#[test]
fn r1_wait_ready_follows_to_the_new_master() {
    let dance = Dance::new();
    let mut master = dance.master(OPTIONS).start();
    dance.scene.heard_times("up", 2);
    let gate = gated(&dance);
    let (pid, workers) = family(&master.status());
    let upgrade = master.ctl_begun("upgrade --fork");
    until("the names are given away", || {
        (!dance.path("app.pid").exists()).then_some(())
    });
    // The old one will not be ready any more.
    dance.scene.app("say up; rest");
    process::signal(workers[0], nix::sys::signal::Signal::SIGKILL);
    dance.scene.heard("up");
    let mut control =
        Control::connect(&dance.path("app.pid.oldbin.ctl")).expect("the old one listens");
    assert_eq!(control.status()["workers"]["ready"], 1);
    let open = || process::descriptors(pid).len();
    let before = open();
    let waiting = master.ctl_begun("wait --ready");
    until("it waits at the old one", || {
        (open() > before).then_some(())
    });
    drop(control);
    dance.scene.app("up; rest");
    std::fs::write(&gate, "go\n").expect("let in");
    upgrade.end().done();
    ends(&mut master);
    waiting.end().done();
    dance.stands_alone(2);
    dance.stop();
}
