//! New masters that come to nothing: the caller is told why, the old one serves on, and the next good upgrade works.

use super::{Dance, OPTIONS, family};
use crate::common::service::{process, until};

/// Each of these next masters fails, for a reason that is told; the old pids are unchanged, and so are the names.
#[test]
fn r2_u19_a_new_master_that_does_not_stand_changes_nothing() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    for (body, why) in [
        ("exit 7", "exited with code 7 before it stood"),
        ("kill -KILL $$", "was killed by KILL before it stood"),
        (
            "exec /nowhere/at/all",
            "exited with code 127 before it stood",
        ),
        (
            "exec \"$0\" --no-such-option",
            "unexpected argument '--no-such-option'",
        ),
        (
            "exec \"$0\" --listen 203.0.113.7:1 \"$@\"",
            "cannot bind tcp:203.0.113.7:1",
        ),
        ("exec \"$0\" --pid /nowhere/app.pid -- true", "/nowhere"),
        (
            "exec \"$0\" --pid there -- /nowhere/app",
            "worker program /nowhere/app",
        ),
        (
            "PF_OLD_MASTER_FD=77 exec \"$0\" \"$@\"",
            "exited with code 111 before it stood",
        ),
    ] {
        dance.next(body);
        dance.ctl("upgrade --fork").failed(1, &[why]);
        assert_eq!(family(&dance.stands_alone(2)), before, "{body}");
        let status = dance.status();
        assert_eq!(status["rollout"]["result"], "rolled-back");
        assert_eq!(
            status["operations"]
                .as_array()
                .expect("some")
                .last()
                .expect("one")["result"],
            "rolled-back"
        );
    }
    dance.next("");
    dance.ctl("upgrade --fork").done();
    dance.stands_alone(2);
    dance.stop();
}

#[test]
fn a_new_master_that_hangs_is_killed_after_ten_seconds() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    dance.next("exec sleep 1000");
    dance
        .ctl("upgrade --fork")
        .failed(1, &["did not stand within 10s"]);
    assert_eq!(family(&dance.stands_alone(2)), before);
    // A wrapper that does not exec is as good, as long as what it has started stands.
    dance.next("\"$0\" \"$@\" & wait; exit");
    dance.ctl("upgrade --fork").done();
    let (new, workers) = family(&dance.status());
    assert!(process::alive(new));
    assert_eq!(workers.len(), 2);
    dance.next("");
    dance.ctl("upgrade --fork").done();
    dance.stands_alone(2);
    dance.stop();
}

#[test]
fn r2_failing_workers_roll_back() {
    let dance = Dance::new();
    let master = dance
        .master(&format!("{OPTIONS} --start-failures 1"))
        .start();
    let before = family(&master.status());
    dance.scene.app("exit 3");
    dance
        .ctl("upgrade --fork")
        // Of whichever slot it is known first.
        .failed(1, &["slot ", "exited with code 3"]);
    assert_eq!(family(&dance.stands_alone(2)), before);
    // After the first has moved. Whoever is started again in its place is of the old release.
    std::fs::create_dir(dance.path("old")).expect("a directory");
    dance
        .scene
        .app(r#"[ "$PF_WORKER$PF_GENERATION" != 13 ] || exit 3; say up; up; rest"#);
    dance
        .ctl("upgrade --fork")
        .failed(1, &["slot 1", "exited with code 3"]);
    let after = family(&dance.stands_alone(2));
    assert_eq!((after.0, after.1[1]), (before.0, before.1[1]));
    assert_ne!(after.1[0], before.1[0]);
    dance.scene.app(crate::common::service::scene::RESTING);
    dance.ctl("upgrade --fork").done();
    dance.stands_alone(2);
    dance.stop();
}

#[test]
fn r2_a_worker_that_dies_on_probation_rolls_back() {
    let dance = Dance::new();
    let mut options = OPTIONS.to_owned();
    options.push_str(" --probation 1h");
    let master = dance.master(&options).start();
    let old = master.pid();
    let upgrade = master.ctl_begun("upgrade --fork");
    until("the old one has nobody left", || {
        let status = dance.old_status();
        (status["workers"]["ready"] == 0 && status["workers"]["retiring"] == 0).then_some(())
    });
    assert_eq!(dance.status()["workers"]["ready"], 2);
    let victim = family(&dance.status()).1[1];
    process::signal(victim, nix::sys::signal::Signal::SIGKILL);
    upgrade.end().failed(1, &["slot 1", "within its probation"]);
    assert_eq!(family(&dance.stands_alone(2)).0, old);
    dance.stop();
}

#[test]
fn names_that_cannot_be_given_away_refuse_the_upgrade() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    std::fs::create_dir(dance.path("app.pid.oldbin")).expect("a directory");
    dance
        .ctl("upgrade --fork")
        .failed(1, &["app.pid.oldbin", "not a regular file"]);
    std::fs::remove_dir(dance.path("app.pid.oldbin")).expect("ours");
    assert_eq!(family(&dance.stands_alone(2)), before);
    // What an earlier master has left there is no obstacle.
    std::fs::write(dance.path("app.pid.oldbin"), "1\n").expect("written");
    dance.ctl("upgrade --fork").done();
    dance.stands_alone(2);
    dance.stop();
}
