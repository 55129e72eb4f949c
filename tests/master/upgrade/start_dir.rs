//! The directory in which the master was started may be gone: deploys delete old releases.

use std::path::{Path, PathBuf};

use crate::common::service::process::cwd;
use crate::common::service::{Master, Scene};

/// A master that was started in `old`, which is gone since, and serves from `new`.
fn without_start_dir(scene: &Scene, options: &str) -> (Master, PathBuf) {
    let (old, new) = (scene.path("old"), scene.path("new"));
    for dir in [&old, &new] {
        std::fs::create_dir(dir).expect("a directory");
    }
    let master = scene.master(options).cwd(&old).start();
    let chdir = format!("reload --chdir {}", new.display());
    master.ctl(&chdir).succeeded();
    for entry in std::fs::read_dir(&old).expect("a directory").flatten() {
        std::fs::remove_file(entry.path()).expect("the log");
    }
    std::fs::remove_dir(&old).expect("empty");
    (master, std::fs::canonicalize(new).expect("real"))
}

#[test]
fn a_master_whose_start_directory_is_gone_is_upgraded_where_it_serves() {
    let scene = Scene::new();
    let (master, new) = without_start_dir(&scene, "-n 1 --ready fd=9");
    for _ in 0..3 {
        super::upgrades(&master);
        assert_eq!(cwd(master.pid()), new);
        assert_eq!(cwd(master.workers()[0]), new);
    }
    // By fork, the message says what is missing.
    let gone = scene.path("old").display().to_string();
    master
        .ctl("upgrade --fork")
        .failed(1, &[&gone, "is gone", "make it again"]);
    // Back again, it is the one that counts.
    std::fs::create_dir(scene.path("old")).expect("a directory");
    super::upgrades(&master);
    let old = std::fs::canonicalize(scene.path("old")).expect("real");
    assert_eq!(cwd(master.pid()), old);
    master.stop();
}

#[test]
fn what_lies_in_the_directory_that_is_gone_is_missed_by_name() {
    let scene = Scene::new();
    let (master, _) = without_start_dir(&scene, "-n 1 --ready fd=9 --log relative.log");
    let gone = scene.path("old").display().to_string();
    master
        .ctl("upgrade")
        .failed(1, &["relative.log", &gone, "is gone", "--reexec"]);
    assert!(!Path::new("/relative.log").exists() && !scene.path("new/relative.log").exists());
    assert_eq!(master.status()["generation"], 2);
    master.stop();

    // Workers that are to start where nothing is any more.
    let scene = Scene::new();
    let home = scene.path("home");
    std::fs::create_dir(&home).expect("a directory");
    let master = scene.master("-n 1 --ready fd=9").cwd(&home).start();
    std::fs::remove_dir(&home).expect("empty");
    let gone = home.display().to_string();
    master
        .ctl("upgrade")
        .failed(1, &["working directory", &gone, "--chdir"]);
    assert_eq!(master.status()["generation"], 1);
    master.stop();
}
