//! Unicorn's service to the letter, with real signals: USR2, then QUIT to one of the two.

use nix::sys::signal::Signal;

use super::{ForkService, OPTIONS, ends, family, pid_of};
use crate::common::service::process;

fn parent(pid: i32) -> String {
    process::status(pid, "PPid")
}

#[test]
fn u16_usr2_starts_a_second_master_and_both_serve() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    let before = family(&master.status());
    master.signal(Signal::SIGUSR2);
    let (old, new) = service.both();
    assert_eq!(family(&old), before, "nothing has changed for the old one");
    assert_eq!((&old["role"], &new["role"]), (&"old".into(), &"new".into()));
    assert_eq!(old["workers"]["ready"], 2);
    assert_eq!(new["workers"]["ready"], 2);
    assert_eq!(new["generation"], 2);
    assert_eq!(old["listeners"], new["listeners"], "they are the same");
    let (pid, workers) = family(&new);
    assert_eq!(parent(pid), before.0.to_string());
    assert!(workers.iter().all(|worker| !before.1.contains(worker)));
    assert_eq!(service.scene.text("app.pid"), format!("{pid}\n"));
    let oldbin = service.scene.text("app.pid.oldbin");
    assert_eq!(oldbin, format!("{}\n", before.0));
    assert_eq!(service.old_ctl("pid").succeeded().stdout, oldbin);
    // What was asked for by a signal is recorded all the same, in both.
    for status in [&old, &new] {
        assert_eq!(status["rollout"]["kind"], "upgrade", "{status:#}");
        assert_eq!(status["rollout"]["result"], "done");
    }
    let op = old["rollout"]["op"].as_str().expect("a word");
    service.ctl(&format!("wait --op {op}")).succeeded();
    service.old_ctl(&format!("wait --op {op}")).succeeded();
    // A stop by the service's name reaches the new master; the old one takes its names back.
    service.ctl("stop").succeeded();
    assert_eq!(family(&service.assert_one_master(2)), before);
    service.stop();
}

#[test]
fn u18_a_second_usr2_is_refused_while_both_live() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (old, new) = service.both();
    master.signal(Signal::SIGUSR2);
    master.wait_for_log(&format!(
        "USR2 refused: the new master {} lives: QUIT to it backs out",
        pid_of(&new)
    ));
    process::signal(pid_of(&new), Signal::SIGUSR2);
    let oldbin = service.path("app.pid.oldbin");
    master.wait_for_log(&format!(
        "USR2 refused: {} names process {}, which lives",
        oldbin.display(),
        pid_of(&old)
    ));
    for (ended, why) in [
        (service.ctl("upgrade --fork"), "which lives"),
        (service.old_ctl("upgrade --fork"), "lives"),
        (service.ctl("upgrade"), "the old master"),
        (service.old_ctl("upgrade"), "the new master"),
    ] {
        ended.failed(6, &[why]);
    }
    process::signal(pid_of(&new), Signal::SIGQUIT);
    service.assert_one_master(2);
    master.signal(Signal::SIGUSR2);
    let (_, newer) = service.both();
    assert_eq!(newer["generation"], 3, "a number is never used twice");
    process::signal(pid_of(&newer), Signal::SIGKILL);
    assert_eq!(pid_of(&service.assert_one_master(2)), pid_of(&old));
    service.stop();
}

#[test]
fn u20_quit_to_the_old_master_commits() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (_, new) = service.both();
    master.signal(Signal::SIGQUIT);
    ends(&mut master);
    assert_eq!(family(&service.assert_one_master(2)), family(&new));
    // The new one is a master like any other.
    service.ctl("reload").succeeded();
    service.ctl("upgrade --fork --manual").succeeded();
    let (_, newer) = service.both();
    assert_eq!(newer["generation"], 4);
    service.old_ctl("stop").succeeded();
    assert_eq!(family(&service.assert_one_master(2)), family(&newer));
    service.stop();
}

#[test]
fn u19_quit_to_the_new_master_returns_the_service() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    service.ctl("upgrade --fork --manual").succeeded();
    let (old, new) = service.both();
    master.signal(Signal::SIGHUP);
    let rolled = crate::common::service::until("the old one has rolled", || {
        let status = service.old_status();
        (status["generation"] == 3 && status["state"] == "running").then_some(status)
    });
    let workers = family(&rolled).1;
    assert!(workers.iter().all(|pid| !family(&old).1.contains(pid)));
    assert_eq!(family(&service.status()), family(&new));
    process::signal(pid_of(&new), Signal::SIGQUIT);
    let alone = service.assert_one_master(2);
    assert_eq!(family(&alone), family(&rolled));
    // The new one has used a number, and so has this one.
    service.ctl("reload").succeeded();
    assert_eq!(service.status()["generation"], 4);
    service.stop();
}

#[test]
fn u12_the_old_master_restarts_its_paused_workers() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (_, new) = service.both();
    master.signal(Signal::SIGWINCH);
    crate::common::service::until("it is paused", || {
        let status = service.old_status();
        (status["state"] == "paused" && status["workers"]["retiring"] == 0).then_some(())
    });
    process::signal(pid_of(&new), Signal::SIGKILL);
    assert_eq!(pid_of(&service.assert_one_master(2)), master.pid());
    service.stop();
}

#[test]
fn what_a_new_master_has_shown_the_old_one_knows() {
    let service = ForkService::new();
    service.scene.app("helper 'count 5 2'; up; rest");
    let master = service.master(OPTIONS).start();
    let requests = |status: &serde_json::Value| status["counters"]["requests"].as_u64();
    assert_eq!(requests(&master.status()), Some(10));
    master.signal(Signal::SIGUSR2);
    let (_, new) = service.both();
    // With those that its own two workers have counted.
    assert_eq!(requests(&new), Some(20), "{new}");
    process::signal(pid_of(&new), Signal::SIGKILL);
    let old = service.assert_one_master(2);
    assert_eq!(requests(&old), Some(20), "{old}");
    assert_eq!(old["counters"]["spawned"], 4, "{old}");
    service.stop();
}
