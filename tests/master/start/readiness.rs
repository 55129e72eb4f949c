//! When a worker counts as ready: every form of `--ready`.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::service::process::{environment, gone};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene, until};
use crate::common::support::copies::ForAnybody;
use crate::common::support::skip;

fn ready_after(master: &Master) -> f64 {
    master.status()["slots"][0]["ready_after_s"]
        .as_f64()
        .expect("ready")
}

fn starting(status: &Value) -> bool {
    status["slots"][0]["state"] == "starting" && status["state"] == "starting"
}

#[test]
fn auto_waits_a_second_until_a_worker_notifies() {
    let scene = Scene::new();
    scene.app("say up; rest");
    let master = scene
        .master("-n 1 --start-timeout 6s --start-failures 1")
        .start();
    let after = ready_after(&master);
    assert!(after >= 1.0, "{after}");

    scene.app("helper ready; say up; rest");
    // On a busy machine the message may come after that second; then the second counted, and the
    // test tries again.
    until("its word is what counts", || {
        master.ctl("reload").succeeded();
        (ready_after(&master) < 1.0).then_some(())
    });
    let workers = master.workers();

    // From now on silence is no answer.
    scene.app("rest");
    master.ctl("reload").failed(1, &["not ready within", "6s"]);
    assert_eq!(master.workers(), workers);
    // A beat is an announcement as well.
    scene.app("touch /dev/fd/$PF_HEARTBEAT_FD; rest");
    master.ctl("reload").succeeded();
}

#[test]
fn notify_waits_for_ready_and_for_nothing_else() {
    let scene = Scene::new();
    // READY=1 comes from a helper that ends at once: the address identifies the worker.
    scene.app(
        r#"helper 'notify STATUS=warming up|EXTEND_TIMEOUT_USEC=1; beat'
        say up; read x <"$PF_TEST_DOOR$PF_WORKER"; helper ready; say told; rest"#,
    );
    let master = scene.master("-n 1 --ready notify").spawn();
    scene.report("up");
    master.until("not ready yet", |status| {
        starting(status) && status["slots"][0]["status"] == "warming up"
    });
    let waiting = master.start_ctl("wait --ready");
    scene.open_door(0);
    scene.report("told");
    waiting.end().succeeded();
    master.stop();
}

/// A client that takes NOTIFY_SOCKET for the name of a file, as some do.
const PATHS_ONLY: &str = r#"
import os, socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
try:
    manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
except OSError:
    pass
with open(os.environ["PF_TEST_SAY"], "w") as say:
    print("up", os.environ["PF_WORKER"], os.environ["PF_GENERATION"], os.getpid(), file=say)
os.execlp("sleep", "sleep", "1000")
"#;

#[test]
fn ready_from_a_client_that_knows_only_paths_counts_with_notify_path() {
    let scene = Scene::new();
    std::fs::write(scene.path("client.py"), PATHS_ONLY).expect("written");
    let client = ["python3", "client.py"];
    let options = "--ready notify --start-timeout 300ms --start-failures 1";
    let said = scene.master(options).command(client).run();
    said.failed(
        1,
        &["no READY=1 came to its NOTIFY_SOCKET", "--notify-path"],
    );
    let processes = SceneProcesses::of(&scene);
    // A socket that a dead master has left there goes.
    let dir = scene.path("notify");
    std::fs::create_dir(&dir).expect("ours");
    let left = dir.join(format!("pf-notify-{}", "0".repeat(32)));
    drop(std::os::unix::net::UnixDatagram::bind(&left).expect("bound"));
    let master = scene
        .master("-n 2 --ready notify --notify-path notify")
        .command(client)
        .start();
    let sockets = || std::fs::read_dir(&dir).expect("there").count();
    let of = |pid| environment(pid)["NOTIFY_SOCKET"].clone();
    for verb in [
        "reload --set A=2",
        "upgrade",
        "upgrade --fork",
        "upgrade",
        "rollback",
    ] {
        let workers = master.workers();
        let [one, other] = [of(workers[0]), of(workers[1])];
        assert!(
            one != other && one.starts_with(dir.to_str().expect("UTF-8")),
            "{one}"
        );
        assert!(!left.exists());
        master.ctl(verb).succeeded();
        master.until("no old worker", |status| status["workers"]["retiring"] == 0);
        let is_gone = || (sockets() == 2).then_some(());
        until("only theirs are there", is_gone);
    }
    master.ctl("stop").succeeded();
    assert_eq!(sockets(), 0);
    processes.gone();
}

#[test]
fn a_notify_path_that_cannot_be_is_told_by_every_check_and_nothing_is_made_by_one() {
    let scene = Scene::new();
    let dir = scene.path("notify");
    let with_path = || {
        let options = "--ready exec --notify-path notify";
        scene.master(options).command(["sleep", "1000"])
    };
    let check = || with_path().option("--check", "-v").run();
    check().succeeded();
    assert!(!dir.exists(), "a check makes no directory");
    std::fs::write(&dir, "").expect("written");
    check().failed(1, &["notify", "not a directory"]);
    std::fs::remove_file(&dir).expect("ours");
    let master = with_path().start();
    let workers = master.workers();
    std::fs::remove_dir_all(&dir).expect("ours");
    master.ctl("reload --dry-run").succeeded();
    assert!(!dir.exists(), "neither does a dry run");
    std::fs::write(&dir, "").expect("written");
    for verb in ["reload --dry-run", "reload"] {
        master.ctl(verb).failed(1, &["notify", "not a directory"]);
    }
    assert_eq!(master.workers(), workers);
    std::fs::remove_file(&dir).expect("ours");
    master.ctl("reload").succeeded();
    assert!(dir.is_dir());
    master.stop();
}

#[test]
fn ready_from_systemd_notify_in_a_shell_worker_counts() {
    let found = Command::new("systemd-notify").arg("--version").output();
    if found.is_err() {
        return skip("no systemd-notify");
    }
    let scene = Scene::new();
    // It waits until the master has read it (BARRIER=1), and is another process than the worker,
    // which is a shell.
    scene.app(
        r#"say up; read x <"$PF_TEST_DOOR$PF_WORKER"
        systemd-notify --ready --status='from a shell' && say told; rest"#,
    );
    let master = scene.master("-n 2 --ready notify").spawn();
    scene.reports("up", 2);
    assert!(starting(&master.status()));
    scene.open_door(1);
    let told = scene.report("told");
    assert_eq!(told.slot, 1, "each has an address of its own");
    let status = master.until("the first of two", |status| status["workers"]["ready"] == 1);
    assert_eq!(status["slots"][0]["state"], "starting");
    assert_eq!(status["slots"][1]["status"], "from a shell");
    scene.open_door(0);
    master.ctl("wait --ready").succeeded();
    master.stop();
}

#[test]
fn ready_from_a_descendant_in_another_group_counts() {
    let scene = Scene::new();
    let wrapper = scene.path("wrapper.py");
    // The child leads its own session, and has ended when the message is read.
    let text = r#"
import os, subprocess, sys
child = r"""
import os, socket
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.sendto(b"READY=1\nSTATUS=from a child", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
"""
subprocess.run([sys.executable, "-c", child], check=True, start_new_session=True)
with open(os.environ["PF_TEST_SAY"], "w") as say:
    print("gone", os.environ["PF_WORKER"], os.environ["PF_GENERATION"], os.getpid(), file=say)
os.execlp("sleep", "sleep", "1000")
"#;
    std::fs::write(&wrapper, text).expect("written");
    let master = scene
        .master("-n 2 --ready notify")
        .command(["python3".into(), wrapper])
        .start();
    scene.reports("gone", 2);
    for slot in [0, 1] {
        assert_eq!(master.status()["slots"][slot]["status"], "from a child");
    }
    master.ctl("reload").succeeded();
    scene.reports("gone", 2);
    master.stop();
}

#[test]
fn ready_from_another_user_does_not_count() {
    if !nix::unistd::Uid::effective().is_root() {
        return skip("only root can speak as another user");
    }
    let scene = Scene::new();
    scene.app("say up; rest");
    let master = scene.master("-n 1 --ready notify").spawn();
    let worker = scene.report("up").pid;
    let address = environment(worker)["NOTIFY_SOCKET"].clone();
    let program = std::env::current_exe().expect("this test");
    let programs = ForAnybody::copy([&program]);
    let speak = |uid: u32, text: &str| {
        let mut command = Command::new(programs.of(&program));
        let arguments = [
            "--exact",
            "scripted_worker::play",
            "--nocapture",
            "--test-threads=1",
        ];
        command.args(arguments).uid(uid).stdout(Stdio::null());
        command
            .env("NOTIFY_SOCKET", &address)
            .env("PF_TEST_PLAY", format!("notify {text}"))
            .status()
    };
    let usurped = speak(65534, "READY=1|STATUS=usurped");
    assert!(usurped.expect("sent").success());
    assert!(speak(0, "STATUS=heard").expect("sent").success());
    // What came first was looked at first.
    master.until("the second word", |status| {
        status["slots"][0]["status"] == "heard"
    });
    assert!(starting(&master.status()));
    assert!(speak(0, "READY=1").expect("sent").success());
    master.ctl("wait --ready").succeeded();
}

#[test]
fn a_barrier_is_answered_after_all_earlier_messages() {
    let scene = Scene::new();
    scene.app("play 'ready; notify STATUS=before; barrier; catch'");
    let master = scene.master("-n 1 --ready notify").start();
    scene.report("barrier");
    assert_eq!(master.status()["slots"][0]["status"], "before");
    scene.report("catching");
    master.stop();
}

#[test]
fn u23_a_heartbeat_by_touch_by_mode_or_by_the_counter() {
    for beat in [
        "touch /dev/fd/$PF_HEARTBEAT_FD",
        "chmod 0400 /dev/fd/$PF_HEARTBEAT_FD",
        "helper beat",
        "helper 'notify WATCHDOG=1'",
    ] {
        let scene = Scene::new();
        scene.app(&format!(
            r#"helper ready; say up; read x <"$PF_TEST_DOOR$PF_WORKER"; {beat}; rest"#
        ));
        let master = scene.master("-n 1 --ready heartbeat").spawn();
        scene.report("up");
        assert!(starting(&master.status()), "READY=1 is no beat");
        scene.open_door(0);
        master.ctl("wait --ready").succeeded();
        let slot = &master.status()["slots"][0];
        assert!(
            slot["heartbeat_age_s"]
                .as_f64()
                .is_some_and(|age| age < 20.0),
            "{slot}"
        );
        assert_eq!(
            slot["beats"],
            if beat == "helper beat" { 1 } else { 0 },
            "{beat}: {slot}"
        );
    }
}

#[test]
fn delay_and_exec_need_no_notification() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready delay=300ms")
        .command(["sleep", "1000"])
        .start();
    let after = ready_after(&master);
    assert!(after >= 0.3, "{after}");
    let other = Scene::new();
    let master = other
        .master("-n 1 --ready exec")
        .command(["sleep", "1000"])
        .start();
    // On a machine so busy that even that takes longer, it is started again.
    until("ready when it has been executed", || {
        master.ctl("restart-worker 0").succeeded();
        (ready_after(&master) < 0.3).then_some(())
    });
}

#[test]
fn a_newline_on_the_ready_fd_means_ready() {
    let scene = Scene::new();
    // Bytes before and after the newline do not matter.
    scene.app("printf version >&9; echo >&9; head -c 200000 /dev/zero >&9; say written; rest");
    let master = scene.master("-n 1 --ready fd=9").start();
    scene.report("written");
    drop(master);

    scene.app("printf nearly >&9; exec 9>&-; rest");
    let failed = scene.master("-n 1 --ready fd=9 --start-failures 1").run();
    failed.failed(1, &["closed its ready fd 9 without a newline"]);
}

#[test]
fn the_start_timeout_kills_the_whole_group() {
    let scene = Scene::new();
    scene
        .app(r#"trap '' TERM INT; sleep 1000 & echo "child 0 0 $!" >"$PF_TEST_SAY"; say up; rest"#);
    let failed = scene
        .master("-n 1 --ready fd=9 --start-timeout 200ms --start-failures 2 --backoff 1ms..1ms")
        .run();
    failed.failed(
        1,
        &[
            "first rollout failed",
            "not ready within its start timeout of 200ms",
            "2 failed starts",
        ],
    );
    for report in [scene.reports("up", 2), scene.reports("child", 2)].concat() {
        gone(report.pid);
    }
}

#[test]
fn ready_then_died_is_never_a_failed_start() {
    for how in ["up; exit 3", "helper ready; exit 3"] {
        // One scene each: a worker that the first master just forked may outlive it by a moment,
        // with its control socket.
        let scene = Scene::new();
        scene.app(how);
        let ready = if how.starts_with("up") {
            "fd=9"
        } else {
            "notify"
        };
        let options = format!("-n 2 --ready {ready} --backoff 1ms..1ms --start-failures 1000");
        let master = scene.master(&options).spawn();
        let status = master.until("many deaths", |status| {
            status["counters"]["died"].as_u64() >= Some(40)
        });
        let log = master.log();
        assert!(!log.contains("before it was ready"), "{log}");
        assert!(
            status["counters"]["readied"].as_u64() >= Some(38),
            "{status}"
        );
    }
}
