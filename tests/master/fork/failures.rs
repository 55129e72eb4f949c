//! New masters that fail: the caller learns why, the old master serves on, and the next good
//! upgrade works.

use super::{ForkService, OPTIONS, family};
use crate::common::service::{process, until};

/// Each of these next masters fails with a reported reason; the old pids and names are unchanged.
#[test]
fn r2_u19_a_new_master_that_does_not_stand_changes_nothing() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
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
        service.next(body);
        service.ctl("upgrade --fork").failed(1, &[why]);
        assert_eq!(family(&service.assert_one_master(2)), before, "{body}");
        let status = service.status();
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
    service.next("");
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn a_new_master_that_hangs_is_killed_after_ten_seconds() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    let before = family(&master.status());
    service.next("exec sleep 1000");
    service
        .ctl("upgrade --fork")
        .failed(1, &["did not stand within 10s"]);
    assert_eq!(family(&service.assert_one_master(2)), before);
    // A wrapper that does not exec works too, as long as the master that it started is up.
    service.next("\"$0\" \"$@\" & wait; exit");
    service.ctl("upgrade --fork").succeeded();
    let (new, workers) = family(&service.status());
    assert!(process::alive(new));
    assert_eq!(workers.len(), 2);
    service.next("");
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn r2_failing_workers_roll_back() {
    let service = ForkService::new();
    let master = service
        .master(&format!("{OPTIONS} --start-failures 1"))
        .start();
    let before = family(&master.status());
    service.scene.app("exit 3");
    service
        .ctl("upgrade --fork")
        // Of whichever slot it is known first.
        .failed(1, &["slot ", "exited with code 3"]);
    assert_eq!(family(&service.assert_one_master(2)), before);
    // After the first slot has moved. A replacement in that slot is of the old release.
    std::fs::create_dir(service.path("old")).expect("a directory");
    service
        .scene
        .app(r#"[ "$PF_WORKER$PF_GENERATION" != 13 ] || exit 3; say up; up; rest"#);
    service
        .ctl("upgrade --fork")
        .failed(1, &["slot 1", "exited with code 3"]);
    let after = family(&service.assert_one_master(2));
    assert_eq!((after.0, after.1[1]), (before.0, before.1[1]));
    assert_ne!(after.1[0], before.1[0]);
    service.scene.app(crate::common::service::scene::RESTING);
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn r2_a_worker_that_dies_on_probation_rolls_back() {
    let service = ForkService::new();
    let mut options = OPTIONS.to_owned();
    options.push_str(" --probation 1h");
    let master = service.master(&options).start();
    let old = master.pid();
    let upgrade = master.start_ctl("upgrade --fork");
    until("the old one has no worker left", || {
        let status = service.old_status();
        (status["workers"]["ready"] == 0 && status["workers"]["retiring"] == 0).then_some(())
    });
    assert_eq!(service.status()["workers"]["ready"], 2);
    let victim = family(&service.status()).1[1];
    process::signal(victim, nix::sys::signal::Signal::SIGKILL);
    upgrade.end().failed(1, &["slot 1", "within its probation"]);
    assert_eq!(family(&service.assert_one_master(2)).0, old);
    service.stop();
}

#[test]
fn names_that_cannot_be_given_away_refuse_the_upgrade() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    let before = family(&master.status());
    std::fs::create_dir(service.path("app.pid.oldbin")).expect("a directory");
    service
        .ctl("upgrade --fork")
        .failed(1, &["app.pid.oldbin", "not a regular file"]);
    std::fs::remove_dir(service.path("app.pid.oldbin")).expect("ours");
    assert_eq!(family(&service.assert_one_master(2)), before);
    // What an earlier master has left there is no obstacle.
    std::fs::write(service.path("app.pid.oldbin"), "1\n").expect("written");
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}
