//! An upgrade in place: another image of the master in the same process takes over everything (R1
//! to R5, R20 to R24, R30 to R35).

mod carried;
mod deaths;
mod faults;
mod in_place;
mod long_environment;
mod rehearsal;
mod room;
mod signals;
mod start_dir;
mod successors;

use std::path::Path;

use crate::common::service::master::Launch;
use crate::common::service::{Master, Scene};

/// A master whose successor is started by the script `successor` in its directory; `"$0" "$@"` is
/// the command line of the master.
fn with_successor<'a>(scene: &'a Scene, options: &str) -> Launch<'a> {
    good_successor(scene);
    let line = format!(". {}", scene.path("successor").display());
    scene.master(options).option("--reexec", line)
}

fn successor(scene: &Scene, body: &str) {
    // Not `Scene::script`, whose functions are for workers; the file is read, and never executed.
    std::fs::write(scene.path("successor"), body).expect("written");
}

fn good_successor(scene: &Scene) {
    successor(scene, "exec \"$0\" \"$@\"\n");
}

/// Upgrades, and the pid and the port stay, and all workers are new.
#[track_caller]
fn upgrades(master: &Master) {
    let (pid, old) = (master.pid(), master.workers());
    let generation = master.status()["generation"].as_u64();
    master.ctl("upgrade").succeeded();
    let status = master.status();
    assert_eq!(status["pid"], pid, "{}", master.log());
    assert!(status["generation"].as_u64() > generation, "{status}");
    assert_eq!(status["rollout"]["kind"], "upgrade");
    assert_eq!(status["rollout"]["result"], "done");
    let new = master.workers();
    assert_eq!(new.len(), old.len());
    assert!(
        new.iter().all(|worker| !old.contains(worker)),
        "{old:?} {new:?}"
    );
}

/// What a process has open, without numbers that differ from one time to the next.
fn open_files(pid: i32) -> usize {
    crate::common::service::process::descriptors(pid).len()
}

fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).expect("it is there").ino()
}
