//! What an upgrade that succeeds does.

use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use super::{inode, open_files, upgrades, with_successor};
use crate::common::service::master::address;
use crate::common::service::process::{cwd, descriptors, gone, signal, status};
use crate::common::service::{Master, Scene, until};

const OPTIONS: &str = "-n 2 --ready fd=9 --listen 127.0.0.1:0 --listen web=unix:web.sock";

#[test]
fn r1_r20_an_upgrade_keeps_pid_names_and_listeners() {
    let scene = Scene::new();
    let master = scene.master(OPTIONS).start();
    let at = address(&master.status(), 0);
    let names = ["app.pid", "app.ctl", "web.sock"].map(|name| scene.path(name));
    let before = names.each_ref().map(|name| inode(name));
    upgrades(&master);
    until("old workers are gone", || {
        master.status()["retiring"]
            .as_array()?
            .is_empty()
            .then_some(())
    });
    let files = settled(master.pid());
    let limits = |pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let (master_limits, worker_limits) = (limits(master.pid()), limits(master.workers()[0]));
    for _ in 0..20 {
        upgrades(&master);
    }
    until("old workers are gone", || {
        master.status()["retiring"]
            .as_array()?
            .is_empty()
            .then_some(())
    });
    // A client that has gone is noticed a moment later.
    until("as many are open as before", || {
        (open_files(master.pid()) == files).then_some(())
    });
    assert_eq!(limits(master.pid()), master_limits);
    assert_eq!(limits(master.workers()[0]), worker_limits);
    assert_eq!(names.each_ref().map(|name| inode(name)), before);
    assert_eq!(scene.text("app.pid"), format!("{}\n", master.pid()));
    let now = master.status();
    assert_eq!(address(&now, 0), at);
    assert_eq!(now["listeners"].as_array().map(Vec::len), Some(2), "{now}");
    // Neither the master nor its workers keep anything of the way here.
    for pid in [master.pid(), master.workers()[0]] {
        assert_eq!(status(pid, "SigBlk"), "0000000000000000");
        let environment = crate::common::service::process::environment(pid);
        assert!(!environment.contains_key("PF_UPGRADE_FAILED"));
        assert!(pid == master.pid() || !environment.contains_key("PF_STATE_FD"));
    }
    crate::common::service::process::wait_for_sleep(master.workers()[0]);
    let worker = descriptors(master.workers()[0]);
    assert_eq!(
        worker.keys().copied().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5],
        "{worker:?}"
    );
    master.stop();
    // After the stop nothing of it is left for the next master.
    assert!(!names[0].exists() && !names[1].exists());
}

/// How many are open once that has been the same for a while: the last client's end was noticed.
fn settled(pid: i32) -> usize {
    let mut last = (open_files(pid), 0);
    until("the number of open files stands", || {
        let now = open_files(pid);
        last = if now == last.0 {
            (now, last.1 + 1)
        } else {
            (now, 0)
        };
        (last.1 == 10).then_some(now)
    })
}

#[test]
fn listeners_and_names_that_pf_listen_bound_stay() {
    let scene = Scene::new();
    let listen = env!("CARGO_BIN_EXE_pf-listen");
    let wrapper = [listen, "http=127.0.0.1:0", "--port-file", "ports", "--"];
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    let at = address(&master.status(), 0);
    upgrades(&master);
    upgrades(&master);
    let status = master.status();
    assert_eq!(
        (address(&status, 0), &status["listeners"][0]["name"]),
        (at, &"http".into())
    );
    let environment = crate::common::service::process::environment(master.workers()[0]);
    assert_eq!(environment["LISTEN_FDNAMES"], "http");
    master.stop();
}

#[test]
fn u16_u17_ten_releases_through_current_each_deleted_after_its_drain() {
    let scene = Scene::new();
    let release = |number: u32| scene.path(&format!("r{number}"));
    let make = |number: u32| {
        std::fs::create_dir(release(number)).expect("a directory");
        scene.script(&format!("r{number}/app"), r#"say "run $0"; up; rest"#);
        symlink(release(number), scene.path("next")).expect("a link");
        std::fs::rename(scene.path("next"), scene.path("current")).expect("renamed");
    };
    make(0);
    let master = scene
        .master("-n 2 --ready fd=9 --chdir current")
        .command(["./app"])
        .start();
    for number in 1..=10 {
        let old = master.workers();
        make(number);
        upgrades(&master);
        old.into_iter().for_each(gone);
        std::fs::remove_dir_all(release(number - 1)).expect("deleted");
        let real = std::fs::canonicalize(release(number)).expect("real");
        for worker in master.workers() {
            assert_eq!(cwd(worker), real);
        }
        assert_eq!(master.status()["cwd"], real.display().to_string());
    }
    // A worker that crashes is replaced from the serving release.
    signal(master.workers()[0], Signal::SIGKILL);
    master.until("replaced", |status| {
        status["workers"]["ready"] == 2 && status["slots"][0]["restarts"] == 1
    });
    master.stop();
}

#[test]
fn u16_the_masters_own_program_is_looked_up_anew() {
    let scene = Scene::new();
    let bin = scene.path("bin");
    std::fs::create_dir(&bin).expect("a directory");
    let real = env!("CARGO_BIN_EXE_pf-master");
    symlink(real, bin.join("pf-master")).expect("a link");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    let run = r#"shift; exec pf-master "$@""#;
    let master = scene
        .master("-n 1 --ready fd=9")
        .env("PATH", path)
        .wrapped_in(["sh", "-c", run, "sh"])
        .start();
    upgrades(&master);
    // Another program of that name, which says so and becomes the one before.
    let copy = scene.path("copy");
    crate::common::support::copies::copied(real, &copy);
    std::fs::remove_file(bin.join("pf-master")).expect("our own");
    symlink(&copy, bin.join("pf-master")).expect("a link");
    upgrades(&master);
    let exe = |pid| std::fs::read_link(format!("/proc/{pid}/exe")).expect("it lives");
    assert_eq!(
        exe(master.pid()),
        std::fs::canonicalize(&copy).expect("real")
    );
    // And it may be gone when the next takes over.
    std::fs::remove_file(&copy).expect("our own");
    master.ctl("upgrade").failed(1, &["successor"]);
    std::fs::remove_file(bin.join("pf-master")).expect("our own");
    symlink(real, bin.join("pf-master")).expect("a link");
    upgrades(&master);
    master.stop();
}

#[test]
fn a_listen_address_added_by_an_upgrade_is_bound() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9 --listen one=127.0.0.1:0").start();
    let at = address(&master.status(), 0);
    super::successor(&scene, "exec \"$0\" --listen two=unix:two.sock \"$@\"\n");
    upgrades(&master);
    let now = master.status();
    assert_eq!(address(&now, 0), at);
    assert_eq!(now["listeners"][1]["name"], "two");
    let environment = crate::common::service::process::environment(master.workers()[0]);
    assert_eq!(environment["LISTEN_FDNAMES"], "one:two");
    upgrades(&master);
    let count = || master.status()["listeners"].as_array().map(Vec::len);
    assert_eq!(count(), Some(2));
    // The release before had one, and the number after it for its heartbeat.
    master.ctl("rollback").succeeded();
    assert_eq!(count(), Some(1));
    let environment = crate::common::service::process::environment(master.workers()[0]);
    assert_eq!(environment["LISTEN_FDNAMES"], "one");
    assert_eq!(environment["PF_HEARTBEAT_FD"], "4");
    std::os::unix::net::UnixStream::connect(scene.path("two.sock")).expect_err("it is closed");
    master.stop();
}

#[test]
fn a_release_from_before_a_listen_address_was_added_has_its_numbers_in_a_new_master_too() {
    let scene = Scene::new();
    let launch = with_successor(&scene, "-n 1 --ready fd=9 --listen one=127.0.0.1:0");
    let mut master = launch.start();
    super::successor(&scene, "exec \"$0\" --listen two=unix:two.sock \"$@\"\n");
    upgrades(&master);
    let of_worker = |master: &Master, name: &str| {
        let environment = crate::common::service::process::environment(master.workers()[0]);
        environment[name].clone()
    };
    master.ctl("upgrade --fork").succeeded();
    assert_eq!(of_worker(&master, "LISTEN_FDNAMES"), "one:two");
    assert_eq!(master.end(), Some(0));
    master.ctl("rollback").succeeded();
    assert_eq!(of_worker(&master, "LISTEN_FDNAMES"), "one");
    assert_eq!(of_worker(&master, "PF_HEARTBEAT_FD"), "4");
    master.ctl("stop").succeeded();
}

#[test]
fn r32_as_pid_1_it_stays_pid_1() {
    if !crate::common::namespace::permitted() {
        return;
    }
    let scene = Scene::new();
    let unshare = scene
        .master("-n 2 --ready fd=9 --listen 127.0.0.1:0")
        .wrapped_in(crate::common::namespace::NAMESPACE)
        .start();
    for generation in 2..5 {
        // From outside its pid file tells of another namespace: the control socket is asked.
        let asked = std::process::Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
            .arg("upgrade")
            .arg(scene.path("app.ctl"))
            .output()
            .expect("pf-ctl");
        assert!(asked.status.success(), "{asked:?}\n{}", unshare.log());
        let status = unshare.status();
        assert_eq!(
            (&status["pid"], &status["generation"]),
            (&1.into(), &generation.into())
        );
    }
    let inside = crate::common::service::scene_processes::children(unshare.pid())[0];
    signal(inside, Signal::SIGTERM);
    let mut unshare = unshare;
    assert_eq!(unshare.end(), Some(0), "{}", unshare.log());
}

#[test]
fn descriptors_that_are_kept_are_kept_for_all_images() {
    let scene = Scene::new();
    scene.app("say \"holds $(cat <&7)\"; up; rest");
    std::fs::write(scene.path("kept"), "it\n").expect("written");
    let wrapper = ["sh", "-c", r#"exec 7<kept; exec "$@""#, "sh"];
    let master = scene
        .master("-n 1 --ready fd=9 --keep-fd 7")
        .wrapped_in(wrapper)
        .start();
    scene.report("holds it");
    for _ in 0..2 {
        upgrades(&master);
        // The offset is shared by all: the first has read it to its end.
        scene.report("holds ");
    }
    master.stop();
}

#[test]
fn a_drain_of_hours_holds_no_upgrade_up() {
    let scene = Scene::new();
    scene.app("play 'catch stubborn ready'");
    let master = scene
        .master("-n 2 --ready notify --graceful-timeout 1h --quick-timeout 100ms")
        .start();
    for round in 1..=3 {
        upgrades(&master);
        let retiring = master.status()["retiring"].as_array().map(Vec::len);
        assert_eq!(retiring, Some(2 * round), "{}", master.log());
    }
    // Each got one stop signal, although three images supervised them.
    scene.reports("got TERM", 6);
    let more = scene.unread_reports();
    assert!(
        !more.iter().any(|report| report.text == "got TERM"),
        "{more:?}"
    );
    master.ctl("retire 1").succeeded();
    master.until("retired", |status| {
        status["retiring"].as_array().map(Vec::len) == Some(4)
    });
    master.ctl("stop --now").succeeded();
}
