//! Unicorn's dance to the letter, with real signals: USR2, then QUIT to one of the two.

use nix::sys::signal::Signal;

use super::{Dance, OPTIONS, ends, family, pid_of};
use crate::common::service::process;

fn parent(pid: i32) -> String {
    process::status(pid, "PPid")
}

#[test]
fn u16_usr2_starts_a_second_master_and_both_serve() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    master.signal(Signal::SIGUSR2);
    let (old, new) = dance.both();
    assert_eq!(family(&old), before, "nothing has changed for the old one");
    assert_eq!((&old["role"], &new["role"]), (&"old".into(), &"new".into()));
    assert_eq!(old["workers"]["ready"], 2);
    assert_eq!(new["workers"]["ready"], 2);
    assert_eq!(new["generation"], 2);
    assert_eq!(old["listeners"], new["listeners"], "they are the same");
    let (pid, workers) = family(&new);
    assert_eq!(parent(pid), before.0.to_string());
    assert!(workers.iter().all(|worker| !before.1.contains(worker)));
    assert_eq!(dance.scene.text("app.pid"), format!("{pid}\n"));
    let oldbin = dance.scene.text("app.pid.oldbin");
    assert_eq!(oldbin, format!("{}\n", before.0));
    assert_eq!(dance.old_ctl("pid").done().stdout, oldbin);
    // What was asked for by a signal is recorded all the same, in both.
    for status in [&old, &new] {
        assert_eq!(status["rollout"]["kind"], "upgrade", "{status:#}");
        assert_eq!(status["rollout"]["result"], "done");
    }
    let op = old["rollout"]["op"].as_u64().expect("a number");
    dance.ctl(&format!("wait --op {op}")).done();
    dance.old_ctl(&format!("wait --op {op}")).done();
    // It is the new one that a stop of the service by its name means; the old one takes its names back.
    dance.ctl("stop").done();
    assert_eq!(family(&dance.stands_alone(2)), before);
    dance.stop();
}

#[test]
fn u18_a_second_usr2_is_refused_while_both_live() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (old, new) = dance.both();
    master.signal(Signal::SIGUSR2);
    master.logged(&format!(
        "USR2 refused: the new master {} lives: QUIT to it backs out",
        pid_of(&new)
    ));
    process::signal(pid_of(&new), Signal::SIGUSR2);
    let oldbin = dance.path("app.pid.oldbin");
    master.logged(&format!(
        "USR2 refused: {} names process {}, which lives",
        oldbin.display(),
        pid_of(&old)
    ));
    for (ended, why) in [
        (dance.ctl("upgrade --fork"), "which lives"),
        (dance.old_ctl("upgrade --fork"), "lives"),
        (dance.ctl("upgrade"), "the old master"),
        (dance.old_ctl("upgrade"), "the new master"),
    ] {
        ended.failed(6, &[why]);
    }
    process::signal(pid_of(&new), Signal::SIGQUIT);
    dance.stands_alone(2);
    master.signal(Signal::SIGUSR2);
    let (_, newer) = dance.both();
    assert_eq!(newer["generation"], 3, "a number is never used twice");
    process::signal(pid_of(&newer), Signal::SIGKILL);
    assert_eq!(pid_of(&dance.stands_alone(2)), pid_of(&old));
    dance.stop();
}

#[test]
fn u20_quit_to_the_old_master_commits() {
    let dance = Dance::new();
    let mut master = dance.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (_, new) = dance.both();
    master.signal(Signal::SIGQUIT);
    ends(&mut master);
    assert_eq!(family(&dance.stands_alone(2)), family(&new));
    // The new one is a master like any other.
    dance.ctl("reload").done();
    dance.ctl("upgrade --fork --manual").done();
    let (_, newer) = dance.both();
    assert_eq!(newer["generation"], 4);
    dance.old_ctl("stop").done();
    assert_eq!(family(&dance.stands_alone(2)), family(&newer));
    dance.stop();
}

#[test]
fn u19_quit_to_the_new_master_returns_the_service() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    dance.ctl("upgrade --fork --manual").done();
    let (old, new) = dance.both();
    master.signal(Signal::SIGHUP);
    let rolled = crate::common::service::until("the old one has rolled", || {
        let status = dance.old_status();
        (status["generation"] == 3 && status["state"] == "running").then_some(status)
    });
    let workers = family(&rolled).1;
    assert!(workers.iter().all(|pid| !family(&old).1.contains(pid)));
    assert_eq!(family(&dance.status()), family(&new));
    process::signal(pid_of(&new), Signal::SIGQUIT);
    let alone = dance.stands_alone(2);
    assert_eq!(family(&alone), family(&rolled));
    // The new one has used a number, and so has this one.
    dance.ctl("reload").done();
    assert_eq!(dance.status()["generation"], 4);
    dance.stop();
}

#[test]
fn u12_the_old_master_restarts_its_paused_workers() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    master.signal(Signal::SIGUSR2);
    let (_, new) = dance.both();
    master.signal(Signal::SIGWINCH);
    crate::common::service::until("it is paused", || {
        let status = dance.old_status();
        (status["state"] == "paused" && status["workers"]["retiring"] == 0).then_some(())
    });
    process::signal(pid_of(&new), Signal::SIGKILL);
    assert_eq!(pid_of(&dance.stands_alone(2)), master.pid());
    dance.stop();
}
