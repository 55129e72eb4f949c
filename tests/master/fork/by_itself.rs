//! `pf-ctl upgrade --fork`: one worker for one, until the old master has nobody left and leaves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{Dance, OPTIONS, ends, family};
use crate::common::service::scene::GATED;
use crate::common::service::{Control, process, until};

#[test]
fn r1_g6_the_command_returns_when_the_new_master_has_the_service() {
    let dance = Dance::new();
    let mut master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    let ended = master.ctl("upgrade --fork").done();
    let done = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        done.contains("upgrade done: generation 2, 2 workers ready"),
        "{ended:?}"
    );
    // It is over: nobody has to wait for anything any more.
    ends(&mut master);
    let status = dance.status();
    assert_eq!(status["role"], "master", "{status:#}");
    assert_eq!(status["rollout"]["kind"], "upgrade");
    assert_eq!(status["rollout"]["result"], "done");
    let after = family(&dance.stands_alone(2));
    assert_ne!(after.0, before.0);
    assert!(after.1.iter().all(|pid| !before.1.contains(pid)));
    // The new master can tell of it, too; and go back to what the old one served.
    let op = status["rollout"]["op"].as_u64().expect("a number");
    let waited = dance.ctl(&format!("wait --op {op}")).done();
    assert!(waited.stderr.contains("upgrade done"), "{waited:?}");
    dance.ctl("rollback").done();
    assert_eq!(dance.status()["generation"], 3);
    for _ in 0..3 {
        dance.ctl("upgrade --fork").done();
    }
    assert_eq!(dance.stands_alone(2)["generation"], 6);
    dance.stop();
}

#[test]
fn r24_colliding_requests_are_refused_during_a_fork() {
    let dance = Dance::new();
    let master = dance.master(OPTIONS).start();
    let before = family(&master.status());
    dance.scene.heard_times("up", 2);
    dance.scene.app(GATED);
    let mut upgrade = master.ctl_begun("upgrade --fork");
    dance.scene.heard("up");
    let new = dance.status();
    assert_eq!(
        (&new["role"], &new["state"]),
        (&"new".into(), &"rolling".into())
    );
    assert_eq!(
        family(&dance.old_status()),
        before,
        "none is ready: none has gone"
    );
    for verb in [
        "upgrade --fork",
        "upgrade",
        "reload",
        "restart-worker 0",
        "pause",
    ] {
        dance.ctl(verb).failed(6, &[]);
        dance.old_ctl(verb).failed(6, &[]);
    }
    dance.scene.open_door(0);
    dance.scene.heard("up");
    until("slot 0 has moved", || {
        let old = dance.old_status();
        (old["workers"]["ready"] == 1 && old["slots"][0]["state"] == "empty").then_some(())
    });
    assert_eq!(dance.status()["workers"]["ready"], 1);
    assert!(upgrade.runs());
    // Scaling is nobody's collision: the new master is the one with the name.
    let scaled = master.ctl_begun("scale 3");
    dance.scene.open_door(1);
    dance.scene.heard("up");
    dance.scene.open_door(2);
    scaled.end().done();
    upgrade.end().done();
    dance.stands_alone(3);
    dance.stop();
}

#[test]
fn r2_rollback_ends_it_whichever_master_is_asked() {
    for ask_the_old_one in [true, false] {
        let dance = Dance::new();
        let master = dance.master(OPTIONS).start();
        let before = family(&master.status());
        dance.scene.heard_times("up", 2);
        dance.scene.app(GATED);
        let upgrade = master.ctl_begun("upgrade --fork");
        dance.scene.heard("up");
        dance.scene.open_door(0);
        dance.scene.heard("up");
        dance.scene.app(crate::common::service::scene::RESTING);
        let ended = if ask_the_old_one {
            dance.old_ctl("rollback")
        } else {
            dance.ctl("rollback")
        };
        // The new master may be gone before its word is out.
        assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
        upgrade
            .end()
            .failed(1, &["it was asked for by a rollback, operation"]);
        let after = family(&dance.stands_alone(2));
        assert_eq!(after.0, before.0);
        assert_eq!(after.1[1], before.1[1], "slot 1 had not moved");
        dance.ctl("upgrade --fork").done();
        dance.stop();
    }
}

#[test]
fn a_stop_while_the_service_moves_ends_all_of_it() {
    for ask_the_old_one in [true, false] {
        let dance = Dance::new();
        let mut master = dance.master(OPTIONS).start();
        dance.scene.heard_times("up", 2);
        dance.scene.app(GATED);
        let upgrade = master.ctl_begun("upgrade --fork");
        dance.scene.heard("up");
        dance.scene.open_door(0);
        dance.scene.heard("up");
        if ask_the_old_one {
            dance.old_ctl("stop").done();
        } else {
            dance.ctl("stop").done();
        }
        upgrade.end().failed(1, &["told to stop"]);
        ends(&mut master);
        dance.tracks.gone();
        for name in ["app.pid", "app.ctl", "app.pid.oldbin", "app.pid.oldbin.ctl"] {
            assert!(!dance.path(name).exists(), "{name} is left");
        }
    }
}

#[test]
fn at_no_moment_fewer_workers_are_ready_than_slots() {
    let dance = Dance::new();
    let _master = dance
        .master("-n 4 --ready fd=9 --listen 127.0.0.1:0")
        .start();
    let (over, samples) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (plain, aside) = (dance.path("app.ctl"), dance.path("app.pid.oldbin.ctl"));
    let ready = |path: &std::path::Path| -> Option<(bool, u64)> {
        let status = Control::connect(path).ok()?.try_status()?;
        let alone = status["role"] == "master";
        Some((alone, status["workers"]["ready"].as_u64()?))
    };
    let sample = || {
        while !over.load(Ordering::SeqCst) {
            // The old one first: a slot that moves in between is counted twice, and never not at all.
            let old = ready(&aside);
            let Some((alone, new)) = ready(&plain) else {
                continue;
            };
            // Where there was none and this one is not alone, the old one has just stepped aside.
            if old.is_some() || alone {
                let all = old.map_or(0, |(_, old)| old) + new;
                assert!(all >= 4, "{old:?} and {new}");
            }
            samples.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let sampler = scope.spawn(sample);
        let mut upgrades = 0;
        while (upgrades < 5 || samples.load(Ordering::SeqCst) < 50) && !sampler.is_finished() {
            dance.ctl("upgrade --fork").done();
            upgrades += 1;
        }
        over.store(true, Ordering::SeqCst);
        sampler.join().expect("every sample holds");
    });
    dance.stop();
}

#[test]
fn an_old_master_stays_until_its_last_worker_has_drained() {
    let dance = Dance::new();
    dance.scene.app("trap '' TERM; say up; up; rest");
    let mut master = dance
        .master("-n 2 --ready fd=9 --graceful-timeout 1h --listen 127.0.0.1:0")
        .start();
    let old = family(&master.status()).1;
    dance.scene.app(crate::common::service::scene::RESTING);
    let mut upgrade = master.ctl_begun("upgrade --fork");
    until("all have moved", || {
        let status = dance.old_status();
        (status["workers"]["retiring"] == 2).then_some(())
    });
    assert_eq!(dance.status()["workers"]["ready"], 2);
    for pid in old {
        assert!(upgrade.runs());
        assert_eq!(dance.status()["role"], "new");
        process::signal(pid, nix::sys::signal::Signal::SIGKILL);
        process::gone(pid);
    }
    upgrade.end().done();
    ends(&mut master);
    dance.stands_alone(2);
    dance.stop();
}
