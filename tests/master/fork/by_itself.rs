//! `pf-ctl upgrade --fork`: the new master takes slot by slot, until the old master has no worker
//! and ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{ForkService, OPTIONS, ends, family};
use crate::common::service::scene::GATED;
use crate::common::service::{Control, process, until};

#[test]
fn r1_g6_the_command_returns_when_the_new_master_has_the_service() {
    let service = ForkService::new();
    let mut master = service.master(OPTIONS).start();
    let before = family(&master.status());
    // Another environment is another release, to which a rollback goes back.
    service.next("export RELEASE=2");
    let ended = master.ctl("upgrade --fork").succeeded();
    let done = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        done.contains("upgrade done: generation 2, 2 workers ready"),
        "{ended:?}"
    );
    // The upgrade is over: no client has to wait any more.
    ends(&mut master);
    let status = service.status();
    assert_eq!(status["role"], "master", "{status:#}");
    assert_eq!(status["rollout"]["kind"], "upgrade");
    assert_eq!(status["rollout"]["result"], "done");
    // The start, and this upgrade, which two masters have seen the end of.
    assert_eq!(status["counters"]["rollouts"], 2, "{status:#}");
    let after = family(&service.assert_one_master(2));
    assert_ne!(after.0, before.0);
    assert!(after.1.iter().all(|pid| !before.1.contains(pid)));
    // The new master can tell of it, too; and go back to what the old one served.
    let op = status["rollout"]["op"].as_str().expect("a word");
    let waited = service.ctl(&format!("wait --op {op}")).succeeded();
    assert!(waited.stderr.contains("upgrade done"), "{waited:?}");
    service.ctl("rollback").succeeded();
    assert_eq!(service.status()["generation"], 3);
    for _ in 0..3 {
        service.ctl("upgrade --fork").succeeded();
    }
    assert_eq!(service.assert_one_master(2)["generation"], 6);
    service.stop();
}

#[test]
fn r24_colliding_requests_are_refused_during_a_fork() {
    let service = ForkService::new();
    let master = service.master(OPTIONS).start();
    let before = family(&master.status());
    service.scene.reports("up", 2);
    service.scene.app(GATED);
    let mut upgrade = master.start_ctl("upgrade --fork");
    service.scene.report("up");
    let new = service.status();
    assert_eq!(
        (&new["role"], &new["state"]),
        (&"new".into(), &"rolling".into())
    );
    assert_eq!(
        family(&service.old_status()),
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
        service.ctl(verb).failed(6, &[]);
        service.old_ctl(verb).failed(6, &[]);
    }
    service.scene.open_door(0);
    service.scene.report("up");
    until("slot 0 has moved", || {
        let old = service.old_status();
        (old["workers"]["ready"] == 1 && old["slots"][0]["state"] == "empty").then_some(())
    });
    assert_eq!(service.status()["workers"]["ready"], 1);
    assert!(upgrade.runs());
    // Scaling collides with nothing: the new master has the name.
    let scaled = master.start_ctl("scale 3");
    service.scene.open_door(1);
    service.scene.report("up");
    service.scene.open_door(2);
    scaled.end().succeeded();
    upgrade.end().succeeded();
    service.assert_one_master(3);
    service.stop();
}

#[test]
fn r2_rollback_ends_it_whichever_master_is_asked() {
    for ask_the_old_one in [true, false] {
        let service = ForkService::new();
        let master = service.master(OPTIONS).start();
        let before = family(&master.status());
        service.scene.reports("up", 2);
        service.scene.app(GATED);
        let upgrade = master.start_ctl("upgrade --fork");
        service.scene.report("up");
        service.scene.open_door(0);
        service.scene.report("up");
        service.scene.app(crate::common::service::scene::RESTING);
        let ended = if ask_the_old_one {
            service.old_ctl("rollback")
        } else {
            service.ctl("rollback")
        };
        // The new master may be gone before its word is out.
        assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
        upgrade
            .end()
            .failed(1, &["it was asked for by a rollback, operation"]);
        let after = family(&service.assert_one_master(2));
        assert_eq!(after.0, before.0);
        assert_eq!(after.1[1], before.1[1], "slot 1 had not moved");
        service.ctl("upgrade --fork").succeeded();
        service.stop();
    }
}

#[test]
fn a_stop_while_the_service_moves_ends_all_of_it() {
    for ask_the_old_one in [true, false] {
        let service = ForkService::new();
        let mut master = service.master(OPTIONS).start();
        service.scene.reports("up", 2);
        service.scene.app(GATED);
        let upgrade = master.start_ctl("upgrade --fork");
        service.scene.report("up");
        service.scene.open_door(0);
        service.scene.report("up");
        if ask_the_old_one {
            service.old_ctl("stop").succeeded();
        } else {
            service.ctl("stop").succeeded();
        }
        upgrade.end().failed(1, &["told to stop"]);
        ends(&mut master);
        service.processes.gone();
        for name in ["app.pid", "app.ctl", "app.pid.oldbin", "app.pid.oldbin.ctl"] {
            assert!(!service.path(name).exists(), "{name} is left");
        }
    }
}

#[test]
fn at_no_moment_fewer_workers_are_ready_than_slots() {
    let service = ForkService::new();
    let _master = service
        .master("-n 4 --ready fd=9 --listen 127.0.0.1:0")
        .start();
    let (over, samples) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (plain, aside) = (service.path("app.ctl"), service.path("app.pid.oldbin.ctl"));
    let ready = |path: &std::path::Path| -> Option<(bool, u64)> {
        let status = Control::connect(path).ok()?.try_status()?;
        let alone = status["role"] == "master";
        Some((alone, status["workers"]["ready"].as_u64()?))
    };
    let sample = || {
        while !over.load(Ordering::SeqCst) {
            // The old master first: a slot that moves in between is counted twice, and never
            // missed.
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
            service.ctl("upgrade --fork").succeeded();
            upgrades += 1;
        }
        over.store(true, Ordering::SeqCst);
        sampler.join().expect("every sample holds");
    });
    service.stop();
}

#[test]
fn an_old_master_stays_until_its_last_worker_has_drained() {
    let service = ForkService::new();
    service.scene.app("trap '' TERM; say up; up; rest");
    let mut master = service
        .master("-n 2 --ready fd=9 --graceful-timeout 1h --listen 127.0.0.1:0")
        .start();
    let old = family(&master.status()).1;
    service.scene.app(crate::common::service::scene::RESTING);
    let mut upgrade = master.start_ctl("upgrade --fork");
    until("all have moved", || {
        let status = service.old_status();
        (status["workers"]["retiring"] == 2).then_some(())
    });
    assert_eq!(service.status()["workers"]["ready"], 2);
    for pid in old {
        assert!(upgrade.runs());
        assert_eq!(service.status()["role"], "new");
        process::signal(pid, nix::sys::signal::Signal::SIGKILL);
        process::gone(pid);
    }
    upgrade.end().succeeded();
    ends(&mut master);
    service.assert_one_master(2);
    service.stop();
}
