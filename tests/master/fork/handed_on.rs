//! What a new master gets: the directory as it was named, the environment, limits, descriptors and
//! state of the old one; and where an upgrade by fork is refused.

use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use super::{ForkService, OPTIONS, family, pid_of};
use crate::common::namespace::{NAMESPACE, master_in, permitted};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Scene, process};

#[test]
fn u17_r30_the_directory_is_looked_up_by_its_name() {
    let service = ForkService::new();
    let current = service.path("current");
    let release = |number: usize| service.path(&format!("release{number}"));
    let switch = |number: usize| {
        std::fs::create_dir(release(number)).expect("a directory");
        let fresh = service.path("current.new");
        symlink(release(number), &fresh).expect("a link");
        std::fs::rename(fresh, &current).expect("switched");
    };
    switch(0);
    let master = service.master(OPTIONS).cwd(&current).start();
    assert_eq!(process::cwd(master.pid()), release(0));
    for number in 1..=5 {
        switch(number);
        service.ctl("upgrade --fork").succeeded();
        let (new, workers) = family(&service.status());
        for pid in workers.into_iter().chain([new]) {
            assert_eq!(process::cwd(pid), release(number));
        }
        // No process needs the previous directory any more.
        std::fs::remove_dir(release(number - 1)).expect("ours");
    }
    service.stop();
}

#[test]
fn g6_environment_limits_and_descriptors_are_the_first_ones() {
    let service = ForkService::new();
    std::fs::write(service.path("kept"), "").expect("written");
    let script = "exec 8<kept; ulimit -Sn 300; exec \"$@\"";
    let master = service
        .master(&format!("{OPTIONS} --keep-fd 8 --daemonize"))
        .env("COLOUR", "blue")
        .wrapped_in(["sh", "-c", script, "sh"]);
    let mut master = master.spawn();
    super::ends(&mut master);
    let old = pid_of(&service.status());
    let session = process::status(old, "NSsid");
    let limits =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let (environment, worker) = (process::environment(old), family(&service.status()).1[0]);
    // A worker may be ready while it still has the descriptors of its shell, so wait for its
    // `sleep`.
    let wait_for_sleep = |pid: i32| {
        process::wait_for_sleep(pid);
        process::descriptors(pid)
    };
    let (descriptors, limit) = (wait_for_sleep(worker), limits(worker));
    for _ in 0..2 {
        service.ctl("upgrade --fork").succeeded();
        let (new, workers) = family(&service.status());
        let mut given = process::environment(new);
        assert!(given.remove("PF_OLD_MASTER_FD").is_some());
        assert_eq!(given, environment);
        assert_eq!(wait_for_sleep(workers[0]), descriptors);
        assert_eq!(limits(workers[0]), limit);
        let theirs = process::environment(workers[0]);
        assert!(!theirs.contains_key("PF_OLD_MASTER_FD"));
        assert_eq!(theirs["PF_MASTER_PID"], new.to_string());
        // It is as detached as the first one.
        assert_eq!(process::status(new, "NSsid"), session);
        assert!(
            process::descriptors(new)
                .values()
                .any(|what| what.ends_with("/kept"))
        );
    }
    service.stop();
}

#[test]
fn r32_the_new_master_keeps_scale_and_reload_changes() {
    let service = ForkService::new();
    let _master = service.master(OPTIONS).start();
    service.ctl("scale 3").succeeded();
    service.ctl("reload --set COLOUR=green").succeeded();
    for round in 0..2 {
        service.ctl("upgrade --fork").succeeded();
        let status = service.assert_one_master(3);
        assert_eq!(
            status["changes"]["set"]["COLOUR"], "green",
            "{round}: {status:#}"
        );
        let worker = family(&status).1[2];
        assert_eq!(process::environment(worker)["COLOUR"], "green");
    }
    // The upgrades made new generations of the same release: the one before has no colour.
    service.ctl("rollback").succeeded();
    assert_eq!(service.status()["changes"], serde_json::json!({}));
    service.stop();
}

#[test]
fn a_master_under_a_holder_refuses_to_fork() {
    let service = ForkService::new();
    let holder = std::process::id().to_string();
    let master = service.master(OPTIONS).env("PF_HOLD", holder).start();
    let before = family(&master.status());
    service
        .ctl("upgrade --fork")
        .failed(6, &["pf-listen --hold"]);
    service
        .ctl("upgrade --fork --dry-run")
        .failed(6, &["pf-listen --hold"]);
    master.signal(Signal::SIGUSR2);
    master.wait_for_log("USR2 refused: pf-listen --hold");
    assert_eq!(family(&service.assert_one_master(2)), before);
    service.stop();
}

#[test]
fn a_pf_hold_of_another_process_is_ignored() {
    let service = ForkService::new();
    let _master = service.master(OPTIONS).env("PF_HOLD", "1").start();
    service.ctl("upgrade --fork").succeeded();
    service.assert_one_master(2);
    service.stop();
}

#[test]
fn pid_1_cannot_leave_its_place() {
    if !permitted() {
        return;
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let mut unshare = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(NAMESPACE)
        .start();
    let master = master_in(&unshare);
    unshare.ctl("upgrade --fork").failed(6, &["pid 1"]);
    process::signal(master, Signal::SIGUSR2);
    unshare.wait_for_log("USR2 refused: pid 1 cannot leave its place");
    assert_eq!(unshare.status()["role"], "master");
    process::signal(master, Signal::SIGTERM);
    assert_eq!(unshare.end(), Some(0), "{}", unshare.log());
    processes.gone();
}
