//! `upgrade --dry-run`: the successor is checked and not executed; and how its output is treated.

use super::{good_successor, successor, with_successor};
use crate::common::service::{Scene, until};

#[test]
fn a_dry_run_describes_the_master_and_executes_nothing() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    let workers = master.workers();
    let told = master.ctl("upgrade --dry-run").succeeded();
    assert!(told.stdout.contains("pf-master"), "{}", told.stdout);
    assert!(told.stdout.contains("peak workers"), "{}", told.stdout);
    assert_eq!(master.workers(), workers);
    let log = master.log();
    assert!(log.contains("upgrade: checking"), "{log}");
    assert!(!log.contains("upgrade: executing"), "{log}");
    master.stop();
}

#[test]
fn a_dry_run_refuses_what_an_upgrade_refuses() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    let workers = master.workers();
    for (body, why) in [
        ("exit 3\n", "exited with code 3 without an answer"),
        (
            "echo 'no such deployment' >&2; exit 4\n",
            "and said 'no such deployment'",
        ),
        ("exec \"$0\" --no-such-option \"$@\"\n", "--no-such-option"),
    ] {
        successor(&scene, body);
        for verb in ["upgrade --dry-run", "upgrade"] {
            master.ctl(verb).failed(1, &["successor --reexec '", why]);
        }
        assert_eq!(master.workers(), workers);
        // No operation, and its number is not used up.
        assert_eq!(master.status()["state"], "running");
    }
    good_successor(&scene);
    master.ctl("upgrade --dry-run").succeeded();
    assert_eq!(master.workers(), workers);
    master.stop();
}

#[test]
fn a_stop_precedes_an_upgrade_precedes_a_dry_run() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    successor(&scene, "echo begun >>\"$PF_TEST_SAY.begun\"; sleep 1000\n");
    let begun = || {
        let path = scene.path("say.begun");
        std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
    };
    let first = master.start_ctl("upgrade --dry-run");
    until("it is checked", || (begun() == 1).then_some(()));
    master
        .ctl("upgrade --dry-run")
        .failed(6, &["being checked already"]);
    good_successor(&scene);
    master.ctl("upgrade").succeeded();
    first.end().failed(6, &["an upgrade has begun meanwhile"]);
    successor(&scene, "echo begun >>\"$PF_TEST_SAY.begun\"; sleep 1000\n");
    let second = master.start_ctl("upgrade --dry-run");
    until("it is checked", || (begun() == 2).then_some(()));
    let pid = master.pid();
    master.stop();
    let _ = second.end();
    assert!(!crate::common::service::process::alive(pid));
}

#[test]
fn r4_output_of_the_successor_check_is_logged_and_bounded() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    successor(
        &scene,
        "if [ -n \"$PF_UPGRADE_CHECK\" ]; then echo hear, hear; head -c 1000000 /dev/zero | tr \
         '\\0' x; fi\nexec \"$0\" \"$@\"\n",
    );
    master.ctl("upgrade").succeeded();
    let log = master.log();
    assert!(log.contains("the successor says: hear, hear"), "{log}");
    let told = log
        .lines()
        .filter(|line| line.contains("the successor says"));
    assert!(told.count() <= 20, "{log}");
    assert!(log.len() < 10_000, "{} bytes", log.len());
    master.stop();
}

#[test]
fn a_dry_run_names_another_worker_count() {
    let scene = Scene::new();
    let master = with_successor(&scene, "-n 1 --ready fd=9").start();
    successor(
        &scene,
        "for word; do shift; [ \"$word\" = 1 ] && word=2; set -- \"$@\" \"$word\"; done\nexec \
         \"$0\" \"$@\"\n",
    );
    master.ctl("upgrade").succeeded();
    let log = master.log();
    assert!(
        log.contains("-n 2 of the new command line is passed over"),
        "{log}"
    );
    assert_eq!(master.workers().len(), 1);
    master.ctl("scale 2").succeeded();
    assert_eq!(master.workers().len(), 2);
    master.stop();
}
