//! A bad release: the old one serves on, and the caller learns why.

use crate::common::service::process::{alive, descendants, gone};
use crate::common::service::scene::RESTING;
use crate::common::service::{Ended, Master, Scene};
use crate::common::support::copies::executable;

const OPTIONS: &str = "-n 2 --ready fd=9 --backoff 1ms..5ms --canary 300ms";
/// Where a canary that dies at once has to be seen to: on a busy machine 300 ms are not long.
const PATIENT: &str = "-n 2 --ready fd=9 --backoff 1ms..5ms --canary 5s";

/// The fault of a release, the options under which it shows, and what the error says.
struct Bad {
    how: &'static str,
    options: &'static str,
    says: &'static [&'static str],
}

const EXITS_AT_BOOT: Bad = Bad {
    how: "say up; exit 3",
    options: OPTIONS,
    says: &[
        "slot 0",
        "exited with code 3 before it was ready",
        "3 failed starts",
    ],
};
const NEVER_READY: Bad = Bad {
    how: "say up; rest",
    options: "-n 2 --ready fd=9 --backoff 1ms..5ms --canary 300ms --start-timeout 2s",
    says: &[
        "slot 0",
        "was killed",
        "not ready within its start timeout of 2s",
    ],
};
const DIES_AFTER_READY: Bad = Bad {
    how: "say up; up; exit 4",
    options: PATIENT,
    says: &["slot 0", "exited with code 4", "after it was ready"],
};
const KILLED_AFTER_READY: Bad = Bad {
    how: "say up; up; kill -SEGV $$",
    options: PATIENT,
    says: &["slot 0", "was killed by SEGV", "after it was ready"],
};

/// A scene whose command is the script itself, so that it can be missing.
fn start(scene: &Scene) -> Master {
    start_with(scene, OPTIONS)
}

fn start_with(scene: &Scene, options: &str) -> Master {
    scene.master(options).command([scene.path("app")]).start()
}

fn untouched(master: &Master, workers: &[i32]) {
    assert_eq!(master.workers(), workers);
    let status = master.until("only the old ones are left", |status| {
        status["state"] == "running"
            && status["retiring"] == serde_json::json!([])
            && status["starting"] == serde_json::json!([])
    });
    assert_eq!(
        (&status["generation"], &status["workers"]["ready"]),
        (&1.into(), &2.into())
    );
    let mut left: Vec<i32> = descendants(master.pid())
        .into_iter()
        .map(|(pid, _)| pid)
        .collect();
    left.sort_unstable();
    let mut old = workers.to_vec();
    old.sort_unstable();
    assert_eq!(left, old);
}

fn one_line(ended: &Ended) {
    let errors = ended
        .stderr
        .lines()
        .filter(|line| {
            line.contains("failed") || line.contains("before it") || line.contains("cannot")
        })
        .count();
    assert!(errors <= 1, "{ended:?}");
}

fn reload_fails_and_the_next_works(bad: &Bad) {
    let scene = Scene::new();
    let master = start_with(&scene, bad.options);
    let workers = master.workers();
    scene.app(bad.how);
    let ended = master.ctl("reload -q").failed(1, bad.says);
    one_line(&ended);
    untouched(&master, &workers);
    let rollout = &master.status()["rollout"];
    assert_eq!(
        (&rollout["result"], &rollout["from"], &rollout["to"]),
        (&"rolled-back".into(), &1.into(), &2.into())
    );
    assert!(
        rollout["error"]
            .as_str()
            .is_some_and(|why| why.contains(bad.says[1])),
        "{rollout}"
    );

    scene.app(RESTING);
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["generation"], 3, "2 is not used again");
    master.stop();
}

fn start_fails_and_leaves_nothing(bad: &Bad) {
    let scene = Scene::new();
    scene.app(bad.how);
    let ended = scene
        .master(bad.options)
        .command([scene.path("app")])
        .run()
        .failed(1, bad.says);
    assert!(
        ended
            .stderr
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("pf-master: the first rollout failed: ")),
        "{ended:?}"
    );
    nothing_left(&scene);
}

fn nothing_left(scene: &Scene) {
    for report in scene.unread_reports() {
        gone(report.pid);
        assert!(!alive(report.pid));
    }
    for name in ["app.pid", "app.ctl"] {
        assert!(!scene.path(name).exists(), "{name} is left");
    }
    // And the name is free for the next.
    scene.app(RESTING);
    start(scene).stop();
}

#[test]
fn a_release_that_exits_at_boot_is_rolled_back() {
    reload_fails_and_the_next_works(&EXITS_AT_BOOT);
    start_fails_and_leaves_nothing(&EXITS_AT_BOOT);
}

#[test]
fn a_release_that_is_never_ready_is_rolled_back() {
    reload_fails_and_the_next_works(&NEVER_READY);
    start_fails_and_leaves_nothing(&NEVER_READY);
}

#[test]
fn a_release_that_dies_once_ready_is_rolled_back() {
    reload_fails_and_the_next_works(&DIES_AFTER_READY);
    start_fails_and_leaves_nothing(&DIES_AFTER_READY);
    reload_fails_and_the_next_works(&KILLED_AFTER_READY);
}

#[test]
fn a_release_with_a_missing_program_fails() {
    let scene = Scene::new();
    let master = start(&scene);
    let workers = master.workers();
    std::fs::remove_file(scene.path("app")).expect("removed");
    let path = scene.path("app").display().to_string();
    let ended = master
        .ctl("reload -q")
        .failed(1, &["worker program", &path, "No such file"]);
    one_line(&ended);
    untouched(&master, &workers);
    scene.app(RESTING);
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["generation"], 2);
    master.stop();

    std::fs::remove_file(scene.path("app")).expect("removed");
    let failed = scene.master(OPTIONS).command([scene.path("app")]).run();
    failed.failed(1, &["pf-master: worker program", &path, "No such file"]);
    nothing_left(&scene);
}

#[test]
fn a_release_that_cannot_be_executed_fails() {
    let scene = Scene::new();
    let master = start(&scene);
    let workers = master.workers();
    std::fs::remove_file(scene.path("app")).expect("removed");
    std::os::unix::fs::symlink(scene.path("text"), scene.path("app")).expect("a link");
    executable(&scene.path("text"), "no program");
    let ended = master.ctl("reload -q").failed(
        1,
        &[
            "slot 0",
            "could not be started: cannot execute its program",
            "Exec format error",
        ],
    );
    one_line(&ended);
    untouched(&master, &workers);
    assert_eq!(
        master.status()["slots"][0]["last_exit"]["cause"],
        "exec-failed"
    );
    drop(master);

    let failed = scene.master(OPTIONS).command([scene.path("app")]).run();
    failed.failed(1, &["first rollout failed", "cannot execute its program"]);
    std::fs::remove_file(scene.path("app")).expect("removed");
    nothing_left(&scene);
}

#[test]
fn a_release_with_a_missing_interpreter_is_refused() {
    let scene = Scene::new();
    let master = start(&scene);
    let workers = master.workers();
    let next = scene.path("next");
    executable(&next, "#!/nowhere/sh -e");
    for reload in ["reload", "reload --dry-run"] {
        let ended = master
            .ctl(&format!("{reload} -q -- {}", next.display()))
            .failed(
                1,
                &[
                    "worker program",
                    "its interpreter /nowhere/sh does not exist",
                ],
            );
        one_line(&ended);
    }
    untouched(&master, &workers);
    assert_eq!(master.status()["counters"]["failed_starts"], 0);
    drop(master);

    let failed = scene.master(OPTIONS).command([&next]).run();
    failed.failed(
        1,
        &["pf-master: worker program", "its interpreter /nowhere/sh"],
    );
    nothing_left(&scene);
}

#[test]
fn surge_0_rolls_the_emptied_slot_back() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready fd=9 --surge 0 --backoff 1ms..5ms")
        .start();
    let old = master.workers();
    scene.reports("up", 2);
    scene.app("[ $PF_GENERATION = 2 ] && exit 3; say up; up; rest");
    master.ctl("reload").failed(1, EXITS_AT_BOOT.says);
    let back = scene.report("up");
    assert_eq!((back.slot, back.generation), (0, 1));
    assert_eq!(master.workers(), [back.pid, old[1]]);
    master.stop();
}

#[test]
fn a_failed_rollback_keeps_the_new_worker() {
    let scene = Scene::new();
    let master = scene.master("-n 2 --ready fd=9 --backoff 1ms..5ms").start();
    let old = master.workers();
    scene.reports("up", 2);
    // The release fails in slot 1 alone; and the one before does not start any more either.
    scene.app(
        "[ $PF_GENERATION = 1 ] && exit 9; [ $PF_WORKER$PF_GENERATION = 12 ] && exit 3; say \
        up; up; rest",
    );
    master.ctl("reload").failed(
        1,
        &[
            "slot 1",
            "exited with code 3",
            "no worker of generation 1 could be started again in slot 0",
        ],
    );
    let stays = scene.report("up");
    assert_eq!((stays.slot, stays.generation), (0, 2));
    assert_eq!(master.workers(), [stays.pid, old[1]]);
    assert_eq!(master.status()["state"], "running");
    master.ctl("reload").succeeded();
    assert_eq!(master.status()["workers"]["ready"], 2);
    master.stop();
}

/// The default of the option, under which no old worker is touched before the first new one has
/// been ready for a second.
#[test]
fn a_release_that_dies_after_it_was_ready_takes_no_worker() {
    let scene = Scene::new();
    let master = start_with(&scene, "-n 2 --ready fd=9 --canary auto");
    let workers = master.workers();
    scene.app("say up; up; exit 3");
    master
        .ctl("reload")
        .failed(1, &["slot 0", "after it was ready, and it was the canary"]);
    untouched(&master, &workers);
    let status = master.status();
    // The canary never had the slot.
    assert_eq!(status["slots"][0]["restarts"], 0, "{status}");
    master.stop();
}

/// Without a canary, it is the number of deaths that rolls it back, and the first slot that has
/// none of its workers is the last that it gets.
#[test]
fn deaths_of_ready_workers_roll_back_and_take_one_slot_at_most() {
    let scene = Scene::new();
    let options = "-n 3 --ready fd=9 --backoff 1s..1s --canary off --start-failures 2";
    let master = start_with(&scene, options);
    let workers = master.workers();
    // The file is the same for the generation that comes back, which must not fail.
    scene.app("say up; up; [ $PF_GENERATION = 1 ] && rest; exit 3");
    master
        .ctl("reload")
        .failed(1, &["exited with code 3", "2 new workers died, the limit"]);
    let status = master.until("all ready", |status| status["workers"]["ready"] == 3);
    assert_eq!(status["generation"], 1);
    let left = master.workers();
    assert_eq!(left[1..], workers[1..], "one slot changed hands: {left:?}");
    master.stop();
}
