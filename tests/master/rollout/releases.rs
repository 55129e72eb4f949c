//! A generation is pinned when it begins: a switched `current` acts at the next rollout and never
//! before.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::common::service::process::{cwd, gone, signal};
use crate::common::service::scene::Report;
use crate::common::service::{Master, Scene};

/// Two releases, and `current`, which names the first.
struct Releases {
    scene: Scene,
}

impl Releases {
    fn new() -> Self {
        let releases = Releases {
            scene: Scene::new(),
        };
        for name in ["r1", "r2", "r3"] {
            std::fs::create_dir(releases.scene.path(name)).expect("a directory");
            releases
                .scene
                .script(&format!("{name}/app"), r#"say "run $0"; up; rest"#);
        }
        releases.switch("r1");
        releases
    }

    /// As every deploying tool does it: a new link renamed over the old one.
    fn switch(&self, to: &str) {
        symlink(to, self.scene.path("next")).expect("a link");
        std::fs::rename(self.scene.path("next"), self.scene.path("current")).expect("renamed");
    }

    /// A directory as the kernel names it.
    fn real(&self, name: &str) -> PathBuf {
        std::fs::canonicalize(self.scene.path(name)).expect("real")
    }

    /// The next worker, which must be of this release.
    #[track_caller]
    fn next_is_of(&self, release: &str) -> Report {
        self.scene
            .report(&format!("run {}/app", self.real(release).display()))
    }

    #[track_caller]
    fn crash(&self, master: &Master, slot: usize, release: &str) -> Report {
        let ready = master.until("all ready", |status| status["workers"]["ready"] == 2);
        signal(
            crate::common::service::master::pids(&ready["slots"])[slot],
            Signal::SIGKILL,
        );
        let next = self.next_is_of(release);
        assert_eq!(next.slot as usize, slot);
        next
    }
}

const OPTIONS: &str = "-n 2 --ready fd=9 --backoff 1ms..2ms";

#[test]
fn u16_g6_a_changed_link_acts_at_the_next_rollout() {
    let releases = Releases::new();
    let scene = &releases.scene;
    let master = scene
        .master(OPTIONS)
        .env("PF_RELEASE", "one")
        .command(["./current/app"])
        .start();
    for _ in 0..2 {
        assert_eq!(releases.next_is_of("r1").generation, 1);
    }
    let program = |release: &str| releases.real(release).join("app").display().to_string();
    let directory = |_: &str| "one".to_owned();
    assert_eq!(
        (&master.status()["program"], &master.status()["release"]),
        (&program("r1").into(), &"one".into())
    );

    releases.switch("r2");
    assert_eq!(releases.crash(&master, 0, "r1").generation, 1);
    assert_eq!(releases.crash(&master, 1, "r1").generation, 1);
    let plan = master.ctl("reload --dry-run").succeeded().stdout;
    assert!(
        plan.contains(&program("r1")) && plan.contains(&program("r2")),
        "{plan}"
    );

    master.ctl("reload").succeeded();
    for _ in 0..2 {
        assert_eq!(releases.next_is_of("r2").generation, 2);
    }
    assert_eq!(master.status()["program"], program("r2"));
    assert_eq!(releases.crash(&master, 1, "r2").generation, 2);

    // The symlink still names r2; the rollback uses what was pinned, as a new generation number.
    let rollback = master.ctl("rollback").succeeded().stderr;
    let last = format!("rolled back: generation 3, {}, serves", directory("r1"));
    assert!(rollback.ends_with(&format!("{last}\n")), "{rollback}");
    assert!(
        rollback.contains("./current/app names") && rollback.contains("HUP deploys that"),
        "{rollback}"
    );
    for _ in 0..2 {
        assert_eq!(releases.next_is_of("r1").generation, 3);
    }
    assert_eq!(releases.crash(&master, 0, "r1").generation, 3);
    let status = master.status();
    assert_eq!(
        (&status["generation"], &status["program"]),
        (&3.into(), &program("r1").into())
    );
    assert_eq!(status["rollout"]["kind"], "rollback");

    // Never forward: the release that was rolled away from has to be named.
    master.ctl("rollback").failed(6, &["no release before"]);
    let named = master.ctl("rollback --to 2").succeeded().stderr;
    assert!(!named.contains("HUP"), "{named}");
    for _ in 0..2 {
        assert_eq!(releases.next_is_of("r2").generation, 4);
    }
    master.stop();
}

#[test]
fn history_names_the_releases_and_an_upgrade_keeps_them() {
    let releases = Releases::new();
    let scene = &releases.scene;
    let launch = scene.master(OPTIONS).command(["./app"]);
    let master = launch.option("--chdir", "current").start();
    releases.switch("r2");
    master.ctl("reload").succeeded();
    // The same pin again is the same release.
    master.ctl("reload").succeeded();
    releases.switch("r3");
    master.ctl("upgrade").succeeded();
    let table = master.ctl("history").succeeded().stdout;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let real = |release: &str| releases.real(release).display().to_string();
    let expected: [[&str; 6]; 4] = [
        ["1", "start", "done", "kept", &real("r1"), "./app"],
        ["2", "reload", "done", "-", &real("r2"), "./app"],
        ["3", "reload", "done", "kept", &real("r2"), "./app"],
        ["4", "upgrade", "done", "serves", &real("r3"), "./app"],
    ];
    assert_eq!(rows.len(), 5, "{table}");
    for (row, expected) in rows[1..].iter().zip(&expected) {
        let told = [&row[..1], &row[row.len() - 5..]].concat();
        assert_eq!(told, expected, "{table}");
    }
    // Generation 2 is forgotten, and its release is kept by generation 3.
    let back = master.ctl("rollback --to 2").succeeded().stderr;
    assert!(back.contains(&real("r2")), "{back}");
    assert_eq!(master.status()["cwd"], real("r2"));
    master.ctl("rollback").succeeded();
    assert_eq!(master.status()["cwd"], real("r1"));
    master
        .ctl("rollback")
        .failed(6, &["no release before", "--to"]);
    master.ctl("rollback --to 99").failed(6, &["not kept"]);
    master.stop();
}

#[test]
fn a_deleted_release_fails_only_a_return_to_it() {
    let releases = Releases::new();
    let scene = &releases.scene;
    let master = scene.master(OPTIONS).command(["./current/app"]).start();
    releases.switch("r2");
    master.ctl("reload").succeeded();
    std::fs::remove_dir_all(scene.path("r1")).expect("removed");
    let workers = master.workers();
    assert_eq!(releases.next_is_of("r2").generation, 2);
    assert_eq!(releases.next_is_of("r2").generation, 2);
    releases.crash(&master, 0, "r2");

    let before = master.until("ready", |status| status["workers"]["ready"] == 2);
    master
        .ctl("rollback")
        .failed(1, &["r1/app", "No such file"]);
    let after = master.status();
    assert_eq!(
        (&after["slots"][1]["pid"], &after["generation"]),
        (&before["slots"][1]["pid"], &2.into())
    );
    assert_eq!(after["slots"][1]["pid"], workers[1]);

    releases.switch("r3");
    master.ctl("reload").succeeded();
    releases.next_is_of("r3");
    master.stop();
}

#[test]
fn u17_the_directory_follows_chdir_and_pwd() {
    for chdir in [true, false] {
        let releases = Releases::new();
        let scene = &releases.scene;
        let launch = scene.master(OPTIONS).command(["./app"]);
        let launch = if chdir {
            launch.option("--chdir", "current")
        } else {
            launch.cwd(&scene.path("current"))
        };
        let master = launch.start();
        let all_in = |release: &str| {
            let real = releases.real(release);
            for pid in master.workers() {
                assert_eq!(cwd(pid), real);
            }
            let status = master.status();
            assert_eq!(status["cwd"], real.display().to_string());
            assert_eq!(status["program"], real.join("app").display().to_string());
        };
        all_in("r1");
        releases.switch("r2");
        releases.next_is_of("r1");
        releases.next_is_of("r1");
        for slot in [0, 1] {
            let next = releases.crash(&master, slot, "r1");
            assert_eq!(cwd(next.pid), releases.real("r1"));
        }
        master.ctl("reload").succeeded();
        all_in("r2");
        master.ctl("rollback").succeeded();
        all_in("r1");
        master.stop();
    }
}

#[test]
fn a_program_name_is_searched_in_path_per_rollout() {
    let releases = Releases::new();
    let scene = &releases.scene;
    let path = format!(
        "PATH={}:{}",
        scene.path("current").display(),
        std::env::var("PATH").expect("a PATH")
    );
    let master = scene
        .master(OPTIONS)
        .option("--env", path)
        .command(["app"])
        .start();
    releases.next_is_of("r1");
    releases.next_is_of("r1");
    releases.switch("r2");
    releases.crash(&master, 0, "r1");
    master.ctl("reload").succeeded();
    releases.next_is_of("r2");
    releases.next_is_of("r2");
    let old = master.workers();
    std::fs::remove_file(scene.path("current")).expect("removed");
    master
        .ctl("reload")
        .failed(1, &["worker program app", "No such file"]);
    assert_eq!(master.workers(), old);
    releases.crash(&master, 1, "r2");
    gone(old[1]);
    master.stop();
}
