//! Unsuitable successors of each kind: exit 1, one line that says why, all processes as before, and
//! the next good upgrade works.

use super::{good_successor, successor, upgrades, with_successor};
use crate::common::service::{Master, Scene};

/// Upgrades to what cannot take over.
#[track_caller]
pub(super) fn fails(scene: &Scene, master: &Master, body: &str, why: &[&str]) {
    successor(scene, body);
    let (pid, workers) = (master.pid(), master.workers());
    let failed = master.ctl("upgrade").failed(1, why);
    let errors: Vec<&str> = failed
        .stderr
        .lines()
        .filter(|line| line.contains("successor") && !line.contains("checking"))
        .collect();
    assert_eq!(errors.len(), 1, "{}", failed.stderr);
    let status = master.status();
    assert_eq!(
        (&status["pid"], &status["state"]),
        (&pid.into(), &"running".into())
    );
    assert_eq!(master.workers(), workers, "{}", master.log());
    assert_eq!(scene.text("app.pid"), format!("{pid}\n"));
}

const ONLY_CHECKED: &str = "[ -n \"$PF_UPGRADE_CHECK\" ] && exec \"$0\" \"$@\"\n";

#[test]
fn r4_an_unsuitable_successor_changes_nothing() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 2 --ready fd=9").start();
    let bad = [
        (
            "exec /nonexistent/pf-master\n",
            "exited with code 127 without an answer",
        ),
        (
            "exec /etc/passwd\n",
            "exited with code 126 without an answer",
        ),
        ("exit 3\n", "exited with code 3 without an answer"),
        ("exit 0\n", "exited with code 0 without an answer"),
        ("kill -SEGV $$\n", "was killed by SEGV"),
        ("kill -KILL $$\n", "was killed by KILL"),
        (
            "eval \"echo hello >&$PF_UPGRADE_CHECK\"; sleep 100\n",
            "it answered 'hello'",
        ),
        ("\"$0\" \"$@\"; exit\n", "has to exec"),
        ("exec \"$0\" --no-such-option \"$@\"\n", "--no-such-option"),
        (
            "exec \"$0\" --chdir /nonexistent \"$@\"\n",
            "working directory /nonexistent",
        ),
        ("exec \"$0\" --keep-fd 77 \"$@\"\n", "--keep-fd 77"),
        (
            "exec \"$0\" --pid x -- /nonexistent/app\n",
            "worker program /nonexistent/app",
        ),
    ];
    for (body, why) in bad {
        fails(&scene, &master, body, &["successor", why]);
    }
    good_successor(&scene);
    upgrades(&master);
    master.stop();
}

#[test]
fn r4_a_successor_that_hangs_is_given_up_after_ten_seconds() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    // A child that has the descriptor as well.
    fails(
        &scene,
        &master,
        "sleep 1000 & wait\n",
        &["did not answer within 10 s"],
    );
    good_successor(&scene);
    upgrades(&master);
    let environment = format!("PF_TEST_SAY={}", scene.path("say").display());
    master.stop();
    // Its group went with it.
    let left = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|entry| {
            std::fs::read(entry.path().join("environ")).is_ok_and(|all| {
                all.split(|byte| *byte == 0)
                    .any(|one| one == environment.as_bytes())
            }) && std::fs::read_to_string(entry.path().join("comm"))
                .is_ok_and(|name| name == "sleep\n")
        });
    assert_eq!(left.count(), 0);
}

#[test]
fn r5_a_successor_that_fails_after_exec_returns() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 2 --ready fd=9").start();
    let exe = std::fs::read_link(format!("/proc/{}/exe", master.pid())).expect("it lives");
    let bad = [
        ("exec \"$0\" --no-such-option \"$@\"\n", "--no-such-option"),
        (
            "exec \"$0\" --listen 127.0.0.1:1,freebind=x \"$@\"\n",
            "freebind",
        ),
        (
            "exec \"$0\" --log /nonexistent/log \"$@\"\n",
            "/nonexistent/log",
        ),
    ];
    for (body, why) in bad {
        for _ in 0..3 {
            fails(
                &scene,
                &master,
                &format!("{ONLY_CHECKED}{body}"),
                &["the successor failed", why],
            );
        }
    }
    assert_eq!(
        std::fs::read_link(format!("/proc/{}/exe", master.pid())).expect("it lives"),
        exe
    );
    // The number was not used, and nothing of the failed ones is left.
    assert_eq!(master.status()["generation"], 1);
    good_successor(&scene);
    upgrades(&master);
    master.ctl("reload").succeeded();
    master.stop();
}

/// A successor that is given what sed makes of the state. bash takes a descriptor that is free.
pub(super) fn forged(scene: &Scene, sed: &str) -> String {
    let script = format!(
        "sed '{sed}' <\"/proc/self/fd/$PF_STATE_FD\" >forged\nexec {{state}}<forged\n\
         PF_STATE_FD=$state exec \"$@\"\n"
    );
    std::fs::write(scene.path("forge"), script).expect("written");
    format!(
        "exec bash {} \"$0\" \"$@\"\n",
        scene.path("forge").display()
    )
}

#[test]
fn a_state_of_another_format_is_refused() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    for format in [2, 0, 99] {
        let why = format!("has format {format}");
        let forge = forged(&scene, &format!("s/\"format\":1,/\"format\":{format},/"));
        fails(&scene, &master, &forge, &["the running master", &why]);
    }
    let garbage = forged(&scene, "s/\"service\":{/\"service\":[/");
    fails(&scene, &master, &garbage, &["not understood"]);
    // What is unknown is ignored: a newer image of the same format may say more.
    successor(
        &scene,
        &forged(
            &scene,
            "s/\"format\":1,/\"format\":1,\"more\":{\"a\":[1]},/",
        ),
    );
    upgrades(&master);
    master.stop();
}

#[test]
fn workers_that_fail_at_boot_keep_the_old_generation() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9 --backoff 1ms..1ms").start();
    let workers = master.workers();
    for _ in 0..3 {
        scene.app("exit 7");
        master
            .ctl("upgrade")
            .failed(1, &["exited with code 7", "3 failed starts"]);
        assert_eq!(master.workers(), workers);
        let status = master.status();
        assert_eq!(
            (&status["generation"], &status["rollout"]["result"]),
            (&1.into(), &"rolled-back".into())
        );
    }
    scene.app(crate::common::service::scene::RESTING);
    master.ctl("reload --set A=b").succeeded();
    upgrades(&master);
    // Back to what served before, though another image pinned that.
    let new = master.workers();
    master.ctl("rollback").succeeded();
    assert!(master.workers().iter().all(|worker| !new.contains(worker)));
    master.stop();
}

#[test]
fn workers_that_die_on_probation_roll_the_upgrade_back() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready fd=9 --probation 1h --backoff 1ms..1ms")
        .start();
    scene.reports("up", 2);
    scene.app("up; say new; read x <\"$PF_TEST_DOOR$PF_WORKER\"; exit 9");
    let upgrade = master.start_ctl("upgrade");
    scene.reports("new", 2);
    master.until("it serves, on probation", |status| {
        status["generation"] == 2 && status["state"] == "running"
    });
    scene.app(crate::common::service::scene::RESTING);
    scene.open_door(0);
    upgrade.end().failed(1, &["exited with code 9"]);
    let status = master.status();
    assert_eq!(
        (&status["generation"], &status["rollout"]["result"]),
        (&1.into(), &"rolled-back".into())
    );
    assert_eq!(status["workers"]["ready"], 2);
    master.stop();
}

#[test]
fn r3_two_at_once_the_second_is_refused() {
    let scene = Scene::new();
    let mut master = with_successor(&scene, "-n 1 --ready fd=9").start();
    // Held in its preflight.
    let gate = scene.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let held = format!("read x <{}\nexec \"$0\" \"$@\"\n", gate.display());
    successor(
        &scene,
        &format!("[ -n \"$PF_UPGRADE_CHECK\" ] || exec \"$0\" \"$@\"\n{held}"),
    );
    let first = master.start_ctl("upgrade");
    master.wait_for_log("upgrade: checking");
    for verb in ["upgrade", "reload", "pause", "restart-worker 0", "rollback"] {
        master.ctl(verb).failed(6, &["(upgrade) is under way"]);
    }
    std::fs::write(&gate, "go\n").expect("opened");
    first.end().succeeded();
    // A stop also ends an upgrade that is held up.
    let second = master.start_ctl("upgrade");
    crate::common::service::until("it is checked", || {
        (master.log().matches("upgrade: checking").count() == 2).then_some(())
    });
    master.ctl("stop").succeeded();
    second.end().failed(1, &["told to stop"]);
    assert_eq!(master.end(), Some(0));
}

#[test]
fn a_lifeline_that_the_new_command_line_adds_must_be_one() {
    let scene = Scene::new();
    let launch = with_successor(&scene, "-n 1 --ready exec");
    let master = launch.command(["sleep", "1000"]).start();
    // Standard input is no pipe here, and would end the service at once.
    let body = "program=$0; exec \"$program\" --lifeline-fd 0 \"$@\"\n";
    fails(&scene, &master, body, &["--lifeline-fd 0", "no pipe"]);
    good_successor(&scene);
    upgrades(&master);
    master.stop();
}

#[test]
fn a_token_or_a_log_that_has_gone_ends_no_service() {
    let scene = Scene::new();
    let dir = scene.path("gone");
    let token = dir.join("token");
    let make = || {
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(&token, "secret\n").expect("written");
    };
    make();
    std::fs::write(scene.path("mine"), "secret\n").expect("written");
    let options = "-n 1 --ready exec --control-token gone/token --log gone/log";
    let mut master = with_successor(&scene, options)
        .command(["sleep", "1000"])
        .spawn();
    let ctl = |verb: &str| master.ctl(&format!("{verb} --token {}", scene.path("mine").display()));
    ctl("wait --ready").succeeded();
    // Found by the check.
    std::fs::remove_file(&token).expect("ours");
    ctl("upgrade").failed(1, &["control token", "No such file"]);
    std::fs::remove_dir_all(&dir).expect("ours");
    ctl("upgrade").failed(1, &["log", "No such file"]);
    // Removed after the check: the image that is gone back to uses what it has read before.
    for _ in 0..2 {
        make();
        let remove = format!("rm -rf {}", dir.display());
        let after = format!("[ -n \"$PF_UPGRADE_CHECK\" ] || {remove}\nexec \"$0\" \"$@\"\n");
        successor(&scene, &after);
        ctl("upgrade").failed(1, &["the successor failed", "No such file"]);
        assert!(!dir.exists());
    }
    let log = master.log();
    assert!(log.contains("logging to standard error"), "{log}");
    assert!(log.contains("the one before stays in use"), "{log}");
    master.ctl("pause").failed(4, &["token"]);
    make();
    good_successor(&scene);
    ctl("upgrade").succeeded();
    ctl("stop").succeeded();
    assert_eq!(master.end(), Some(0));
}
