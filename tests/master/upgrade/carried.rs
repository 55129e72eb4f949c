//! What passes from one image to the next: clients, operations, timers, counters, heartbeats,
//! signals.

use nix::sys::signal::Signal;
use serde_json::json;

use super::{good_successor, successor, upgrades, with_successor};
use crate::common::service::process::{self, signal};
use crate::common::service::{Scene, until};

/// A successor that waits, after its exec, until the test has opened the gate: until then no
/// process reads events.
fn gated(scene: &Scene) {
    let gate = scene.path("gate");
    if !gate.exists() {
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    }
    successor(
        scene,
        &format!(
            "[ -n \"$PF_UPGRADE_CHECK\" ] || {{ echo >{0}.there; read x <{0}; }}\n\
             exec \"$0\" \"$@\"\n",
            gate.display()
        ),
    );
}

#[track_caller]
fn at_the_gate(scene: &Scene) {
    until("the successor is at the gate", || {
        scene.path("gate.there").exists().then_some(())
    });
    std::fs::remove_file(scene.path("gate.there")).expect("ours");
}

fn open(scene: &Scene) {
    std::fs::write(scene.path("gate"), "go\n").expect("opened");
}

#[test]
fn r21_the_next_image_answers_the_client() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    gated(&scene);
    // Before the exec: an unfinished line (it has five seconds to end), a waiting request, and an
    // idle client.
    let mut half = master.control();
    let mut idle = master.control();
    idle.status();
    scene.app(crate::common::service::scene::GATED);
    let scaling = master.start_ctl("scale 2");
    scene.report("up");
    scene.report("up");
    let mut keyed = master.control();
    let request = json!({"cmd": "upgrade", "wait": false, "key": "deploy-7", "id": "a"});
    half.send(b"{\"cmd\": \"sta").expect("sent");
    let op = keyed.ask(&request)["op"].clone();
    at_the_gate(&scene);
    half.send(b"tus\", \"id\": 5}\n").expect("sent");
    // A client that connects now waits in the queue of a socket that never closed.
    let mut late = master.control();
    late.request(&json!({"cmd": "status"}));
    // Those that wait at a door are replaced by some that do not.
    scene.app(crate::common::service::scene::RESTING);
    open(&scene);
    assert_eq!(late.reply()["status"]["pid"], master.pid());
    let answer = half.reply();
    assert_eq!((&answer["id"], &answer["ok"]), (&5.into(), &true.into()));
    idle.status();
    let waiting = json!({"cmd": "wait", "op": op, "id": "b"});
    keyed.request(&waiting);
    assert_eq!(keyed.reply()["ok"], true, "{}", master.log());
    scaling.end().succeeded();
    // The key was used, also before.
    let again = keyed.ask(&request);
    assert_eq!((&again["op"], &again["ok"]), (&op, &true.into()));
    let op = op.as_str().expect("a word");
    master.ctl(&format!("wait --op {op}")).succeeded();
    assert_eq!(master.status()["workers"]["wanted"], 2);
    master.stop();
}

#[test]
fn signals_during_the_exec_are_not_lost() {
    let scene = Scene::new();
    let mut master = with_successor(&scene, "-n 1 --ready fd=9").start();
    for (sent, wanted) in [
        (Signal::SIGTTIN, 2),
        (Signal::SIGTTOU, 1),
        (Signal::SIGTTIN, 2),
    ] {
        gated(&scene);
        let upgrade = master.start_ctl("upgrade");
        at_the_gate(&scene);
        for harmless in [Signal::SIGUSR1, Signal::SIGCHLD, sent] {
            master.signal(harmless);
        }
        open(&scene);
        upgrade.end().succeeded();
        master.until("the signal has acted", |status| {
            status["workers"]["wanted"] == wanted && status["workers"]["ready"] == wanted
        });
    }
    // A stop as well; and it ends the upgrade.
    gated(&scene);
    let upgrade = master.start_ctl("upgrade");
    at_the_gate(&scene);
    master.signal(Signal::SIGQUIT);
    open(&scene);
    upgrade.end().failed(1, &["stop"]);
    assert_eq!(master.end(), Some(0));
}

#[test]
fn signals_before_a_failed_exec_reach_the_old_image() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    gated(&scene);
    let gate = std::fs::read_to_string(scene.path("successor")).expect("ours");
    let line = "[ -n \"$PF_UPGRADE_CHECK\" ] || exec \"$0\" --no-such-option\nexec \"$0\" \"$@\"\n";
    successor(&scene, &gate.replace("exec \"$0\" \"$@\"\n", line));
    let upgrade = master.start_ctl("upgrade");
    at_the_gate(&scene);
    master.signal(Signal::SIGTTIN);
    open(&scene);
    upgrade.end().failed(1, &["--no-such-option"]);
    master.until("two", |status| status["workers"]["ready"] == 2);
    master.stop();
}

#[test]
fn r22_exits_and_messages_during_the_exec_are_handled() {
    let scene = Scene::new();
    scene.app("up; say up; read x <\"$PF_TEST_DOOR$PF_WORKER\"; exit 3");
    let master = with_successor(&scene, "-n 2 --ready fd=9 --backoff 1ms..1ms").start();
    let old = master.workers();
    scene.reports("up", 2);
    gated(&scene);
    let upgrade = master.start_ctl("upgrade");
    at_the_gate(&scene);
    scene.open_door(1);
    until("it has ended", || {
        (process::status(old[1], "State").starts_with('Z')).then_some(())
    });
    open(&scene);
    upgrade.end().succeeded();
    let status = master.status();
    assert_eq!(status["slots"][1]["restarts"], 1, "{}", master.log());
    assert!(master.log().contains(&format!(
        "worker {} of generation 1 exited with code 3",
        old[1]
    )));
    master.ctl("stop --now").succeeded();
}

#[test]
fn timers_counters_heartbeats_and_operations_go_on() {
    let scene = Scene::new();
    scene.app(
        "beat() { touch /proc/self/fd/$PF_HEARTBEAT_FD; }; trap beat USR1; beat; \
         helper 'notify STATUS=warm'; up; say up; while :; do sleep 1000 & wait; done",
    );
    let master = with_successor(
        &scene,
        "-n 1 --ready fd=9 --graceful-timeout 1h --backoff 1h..1h",
    )
    .start();
    let first = scene.report("up").pid;
    master.ctl("reload").succeeded();
    scene.report("up");
    let before = master.status();
    upgrades(&master);
    scene.report("up");
    let after = master.status();
    assert_eq!(after["started_at"], before["started_at"]);
    for counter in ["spawned", "readied", "rollouts"] {
        let count =
            |status: &serde_json::Value| status["counters"][counter].as_u64().expect("a count");
        assert_eq!(count(&after), count(&before) + 1, "{counter}");
    }
    let ops = |status: &serde_json::Value| status["operations"].as_array().expect("all").len();
    assert_eq!(ops(&after), ops(&before) + 1);
    // This image reaps, and forgets, the worker that the previous image had asked to finish.
    process::gone(first);
    master.until("no worker retires", |status| {
        status["workers"]["retiring"] == 0
    });
    // The next image keeps to the waits of the one before.
    signal(master.workers()[0], Signal::SIGKILL);
    master.until("it rests", |status| {
        status["slots"][0]["state"] == "backoff"
    });
    master.ctl("stop --now").succeeded();
}

#[test]
fn r36_a_worker_that_hangs_is_known_by_the_next_image() {
    let scene = Scene::new();
    scene.app("touch /dev/fd/$PF_HEARTBEAT_FD; up; say up; rest");
    let master = with_successor(&scene, "-n 1 --ready fd=9 --timeout 2s").start();
    scene.report("up");
    good_successor(&scene);
    upgrades(&master);
    // That one's workers beat once as well, and it is the next image that waits for more.
    let died = |status: &serde_json::Value| status["counters"]["died"].as_u64();
    let before = master.status();
    let after = master.until("it is aborted", |status| died(status) > died(&before));
    assert_eq!(
        after["slots"][0]["last_exit"]["cause"],
        "killed-heartbeat",
        "{}",
        master.log()
    );
    master.stop();
}

#[test]
fn reload_changes_and_scale_survive_an_upgrade() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    scene.app("say \"is $COLOUR\"; up; rest");
    master.ctl("reload --set COLOUR=green").succeeded();
    scene.report("is green");
    master.ctl("scale 3").succeeded();
    scene.reports("is green", 2);
    upgrades(&master);
    scene.reports("is green", 3);
    assert_eq!(master.status()["workers"]["ready"], 3);
    // What was undone stays undone.
    master.ctl("reload --unset COLOUR").succeeded();
    upgrades(&master);
    scene.reports("is ", 6);
    master.stop();
}

#[test]
fn an_upgrade_keeps_terminal_signals_ignored() {
    let scene = Scene::new();
    let wrapper = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    upgrades(&master);
    upgrades(&master);
    // A process's HUP means what it says.
    master.signal(Signal::SIGHUP);
    master.until("reloaded", |status| status["generation"] == 4);
    master.stop();
}
