//! A service from its start to its end: slots, what workers share, what is reaped, what is left.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::service::master::{Client, address, pids, refused};
use crate::common::service::{Scene, process, until};

#[test]
fn u1_u32_s1_all_workers_accept_on_the_masters_sockets() {
    let scene = Scene::new();
    scene.app("play serve");
    let master = scene
        .master("-n 3 --listen web=127.0.0.1:0 --listen 127.0.0.1:0")
        .start();
    let status = master.status();
    let workers: BTreeSet<i32> = pids(&status["slots"]).into_iter().collect();
    assert_eq!(workers.len(), 3);

    // Each worker has both listeners; a busy worker leaves the next connection to another, sooner
    // or later.
    for listener in [0, 1] {
        let address = address(&status, listener);
        let mut seen = BTreeSet::new();
        until("every worker answers", || {
            let (slot, generation, pid) = Client::dial(address).ask();
            assert_eq!(
                (status["slots"][slot as usize]["pid"].as_i64(), generation),
                (Some(pid.into()), 1)
            );
            seen.insert(pid);
            (seen == workers).then_some(())
        });
    }
    assert_eq!(status["role"], "master");
    assert_eq!(status["listeners"][0]["name"], "web");
    assert_eq!(status["listeners"][0]["fd"], 3);
    assert_eq!(status["listeners"][1]["name"], json!(null));
    assert_eq!(status["listeners"][1]["fd"], 4);
    master.stop();
}

#[test]
fn u6_u7_s1_a_replacement_gets_the_slot_and_exits_are_logged() {
    let scene = Scene::new();
    let master = scene.master("-n 3 --ready fd=9 --backoff 1ms..2ms").start();
    let first = scene.reports("up", 3);
    assert_eq!(
        first.iter().map(|report| report.slot).collect::<Vec<_>>(),
        [0, 1, 2]
    );

    process::signal(first[1].pid, Signal::SIGSEGV);
    let next = scene.report("up");
    assert_eq!(next.slot, 1);
    assert_ne!(next.pid, first[1].pid);
    let line = master.wait_for_log("was killed by SEGV");
    assert!(
        line.contains("slot 1") && line.contains(&first[1].pid.to_string()),
        "{line}"
    );

    let status = master.until("back", |status| status["workers"]["ready"] == 3);
    assert_eq!(
        pids(&status["slots"]),
        [first[0].pid, next.pid, first[2].pid]
    );
    let slot = &status["slots"][1];
    assert_eq!(
        (&slot["restarts"], &slot["last_exit"]["cause"]),
        (&json!(1), &json!("signaled"))
    );
    assert_eq!(slot["last_exit"]["signal"], "SEGV");
    assert_eq!(status["slots"][0]["restarts"], 0);
    master.stop();
}

#[test]
fn s5_u7_children_of_others_that_become_ours_are_reaped() {
    let scene = Scene::new();
    // The grandchild leaves the session, so it is not part of the worker, and ends when its door
    // opens. Only the first worker has one, since there is one door.
    scene.app(
        r#"[ -e "$PF_TEST_SAY.once" ] || {
            >"$PF_TEST_SAY.once"
            setsid sh -c 'echo stranger 0 0 $$ >"$PF_TEST_SAY"
                read x <"$PF_TEST_DOOR$PF_WORKER"' &
        }; say up; up; rest"#,
    );
    let master = scene.master("-n 1 --ready fd=9").start();
    let worker = scene.report("up").pid;
    let stranger = scene.report("stranger").pid;
    master.ctl("restart-worker 0").succeeded();
    process::gone(worker);
    // Orphaned, it is the master's child now.
    until("it is adopted", || {
        (process::status(stranger, "PPid") == master.pid().to_string()).then_some(())
    });
    scene.open_door(0);
    until("it is no zombie either", || {
        (!process::exists(stranger)).then_some(())
    });
    assert_eq!(master.status()["workers"]["ready"], 1);
}

#[test]
fn u11_no_slots_and_two_hundred() {
    let scene = Scene::new();
    let master = scene.master("-n 0 --listen 127.0.0.1:0").start();
    assert_eq!(master.status()["slots"], json!([]));
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["generation"], 2);

    let other = Scene::new();
    let many = other
        .master("-n 200 --ready exec --surge 20")
        .command(["sleep", "1000"])
        .start();
    let status = many.status();
    let workers: BTreeSet<i32> = pids(&status["slots"]).into_iter().collect();
    assert_eq!(
        (workers.len(), &status["workers"]["ready"]),
        (200, &json!(200))
    );
    many.ctl("reload --timeout 60s").succeeded();
    let after: BTreeSet<i32> = many.workers().into_iter().collect();
    assert_eq!(after.len(), 200);
    assert!(after.is_disjoint(&workers));
    many.stop();
    master.stop();
}

#[test]
fn without_n_there_are_as_many_workers_as_usable_cpus() {
    let scene = Scene::new();
    let mine = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("affinity");
    let first = (0..nix::sched::CpuSet::count())
        .find(|cpu| mine.is_set(*cpu).unwrap_or(false))
        .expect("a CPU");
    // taskset allows one CPU: one worker.
    let wrapper = ["taskset".to_owned(), "-c".to_owned(), first.to_string()];
    let master = scene.master("--ready fd=9").wrapped_in(wrapper).start();
    assert_eq!(master.status()["workers"]["wanted"], 1);
    master.wait_for_log("1 worker, as many as usable CPUs");
}

#[test]
fn p8_starting_twice_and_stopping_nothing_have_own_codes() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    let pid = master.pid().to_string();
    scene.master("-n 1").run().failed(6, &["app.pid", &pid]);
    assert_eq!(
        master.status()["workers"]["ready"],
        1,
        "the first one serves on"
    );
    assert_eq!(master.ctl("pid").succeeded().stdout.trim(), pid);
    master.ctl("stop").succeeded();
    master.ctl("stop").failed(3, &["not running"]);
}

#[test]
fn u10_s3_a_stop_leaves_nothing_behind_and_the_address_refuses() {
    let scene = Scene::new();
    scene.app("play serve");
    let mut master = scene.master("-n 2 --listen 127.0.0.1:0").start();
    let address = address(&master.status(), 0);
    let mut client = Client::dial(address);
    let (slot, ..) = client.ask();
    let mut stop = master.start_ctl("stop");
    // Both got the stop signal. The one without a connection ends, and with both listeners closed
    // the address refuses although a request is running.
    scene.reports("draining", 2);
    let left = |status: &Value| {
        pids(&status["slots"])
            .iter()
            .filter(|pid| **pid != 0)
            .count()
    };
    let status = master.until("only one is left", |status| left(status) == 1);
    assert_eq!(status["slots"][slot as usize]["state"], "stopping");
    refused(address);
    assert_eq!(
        client.ask().0,
        slot,
        "the request that was begun is served to its end"
    );
    assert_eq!(master.status()["state"], "stopping");
    assert!(stop.runs());
    let workers = process::descendants(master.pid());
    drop(client);
    stop.end().succeeded();
    assert_eq!(master.end(), Some(0));
    assert!(workers.iter().all(|(pid, _)| !process::alive(*pid)));
    let left: Vec<_> = std::fs::read_dir(scene.dir())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name == "app.pid" || name == "app.ctl"),
        "{left:?}"
    );
    assert!(
        !scene.text("err").contains("killed"),
        "{}",
        scene.text("err")
    );
}

#[test]
fn p9_a_stop_waits_for_a_time_then_kills() {
    let scene = Scene::new();
    scene.app("play 'catch stubborn ready'");
    let mut master = scene.master("-n 1 --ready notify").start();
    let worker = master.workers()[0];
    let asked = master.start_ctl("stop");
    assert_eq!(scene.report("got TERM").pid, worker);
    let ended = master.ctl("stop --timeout 300ms --kill").succeeded();
    assert!(ended.stderr.contains("killed"), "{ended:?}");
    assert_eq!(master.end(), None, "by a signal");
    // The one who had asked first learns that the stop was not finished.
    asked
        .end()
        .failed(3, &["the master was ended by something else"]);
    process::signal(worker, Signal::SIGKILL);
}

#[test]
fn nothing_is_written_without_being_asked_for() {
    let scene = Scene::new();
    let empty = tempfile::tempdir().expect("a directory");
    let mut master = scene
        .master("-n 1 --ready fd=9 --listen 127.0.0.1:0")
        .names("")
        .cwd(empty.path())
        .spawn();
    scene.report("up");
    assert_eq!(
        std::fs::read_dir(empty.path())
            .expect("a directory")
            .count(),
        0
    );
    let names: Vec<_> = std::fs::read_dir(scene.dir())
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    let written = ["app", "say", "err"].map(std::ffi::OsString::from);
    assert!(
        names
            .iter()
            .all(|name| written.contains(name) || name.to_string_lossy().starts_with("door")),
        "{names:?}"
    );
    master.signal(Signal::SIGTERM);
    assert_eq!(master.end(), Some(0));
}
