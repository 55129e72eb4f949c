//! Tests of the pid file. Locks belong to a process, so the contestants are processes of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

use super::acquire::{Attempt, create, replace};
use super::lock::open_existing;
use super::unnamed::NewFile;
use super::*;
use crate::error::Exit;
use crate::model::signal::Signal;
use crate::sys::machine::clock::now;
use crate::sys::testing::{Peer, Talk};

/// Runs in a process of its own: carries out commands on one pid file.
pub fn play(talk: &mut Talk) {
    let path = PathBuf::from(talk.hear().expect("a path"));
    let mut held = None;
    while let Some(order) = talk.hear() {
        match order.as_str() {
            "acquire" => match PidFile::acquire(&path) {
                Ok(file) => {
                    held = Some(file);
                    talk.say("won");
                }
                Err(error) => talk.say(&format!("{:?} {error}", error.exit)),
            },
            "leave" => {
                held = None;
                talk.say("left");
            }
            "remove" => {
                if let Some(file) = held.take() {
                    file.remove().expect("removed");
                }
                talk.say("removed");
            }
            "aside" | "back" => {
                let to = match order.as_str() {
                    "aside" => path.with_extension("pid.oldbin"),
                    _ => path.clone(),
                };
                let moved = held.as_mut().expect("held").move_to(&to);
                talk.say(&match moved {
                    Ok(moved) => format!("moved {moved}"),
                    Err(error) => format!("{:?} {error}", error.exit),
                });
            }
            other => panic!("{other}"),
        }
    }
}

fn contestant(path: &Path) -> Peer {
    Peer::start("pidfile", &[path.to_str().expect("UTF-8")])
}

fn ask(peer: &mut Peer, order: &str) -> String {
    peer.talk.say(order);
    peer.talk.hear().expect("an answer")
}

fn litter(dir: &Path) -> usize {
    fs::read_dir(dir).expect("listed").count()
}

#[test]
fn u22_of_two_starters_exactly_one_wins_two_hundred_times() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    let (mut one, mut two) = (contestant(&path), contestant(&path));
    for round in 0..200 {
        one.talk.say("acquire");
        two.talk.say("acquire");
        let answers = (
            one.talk.hear().expect("an answer"),
            two.talk.hear().expect("an answer"),
        );
        let (winner, loser, told) = match (answers.0.as_str(), answers.1.as_str()) {
            ("won", told) => (&mut one, &mut two, told),
            (told, "won") => (&mut two, &mut one, told),
            _ => panic!("round {round}: no winner: {answers:?}"),
        };
        let told_so = format!("process {} owns it", winner.pid());
        assert!(
            told.starts_with("Refused ") && told.contains(&told_so),
            "round {round}: {told}"
        );
        let content = fs::read_to_string(&path).expect("written");
        assert_eq!(content, format!("{}\n", winner.pid()));
        assert_eq!(owner(&path).expect("asked"), Owner::Alive(winner.pid()));
        // The next round finds no file, a stale file, or one with the pid of another live process.
        let (end, left) = match round % 3 {
            0 => ("remove", Owner::Absent),
            _ => ("leave", Owner::Stale),
        };
        ask(winner, end);
        assert_eq!(owner(&path).expect("asked"), left);
        if round % 3 == 2 {
            fs::write(&path, format!("{}\n", loser.pid())).expect("written");
        }
    }
    ask(&mut one, "acquire");
    assert_eq!(litter(dir.path()), 1, "no temporary file stays");
}

#[test]
fn u22_a_starter_that_is_killed_leaves_no_name_and_what_older_ones_left_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    let new = NewFile::beside(&path).expect("made");
    assert_eq!(
        litter(dir.path()),
        0,
        "it has no name that a KILL could leave"
    );
    drop(new);
    let left = format!(".app.pid.{}", "0123456789abcdef".repeat(2));
    for name in [left.as_str(), ".app.pid.other", ".other.pid.0123"] {
        fs::write(dir.path().join(name), "1\n").expect("written");
    }
    let mut peer = contestant(&path);
    assert_eq!(ask(&mut peer, "acquire"), "won");
    assert!(!dir.path().join(left).exists());
    assert_eq!(litter(dir.path()), 3, "the files of others stay");
}

#[test]
fn u22_a_starter_that_is_late_at_a_step_tries_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    fs::write(&path, "stale").expect("written");
    let late = open_existing(&path).expect("opened").expect("there");
    let mut peer = contestant(&path);
    assert_eq!(ask(&mut peer, "acquire"), "won");
    // The lock of the old file is free again, but the path names the winner's file.
    assert!(matches!(replace(&path, late), Ok(Attempt::Raced)));
    assert!(matches!(create(&path), Ok(Attempt::Raced)));
    assert_eq!(owner(&path).expect("asked"), Owner::Alive(peer.pid()));
    let now = open_existing(&path).expect("opened").expect("there");
    assert!(matches!(replace(&path, now), Ok(Attempt::Taken(pid)) if pid == peer.pid()));
    assert_eq!(litter(dir.path()), 1);
}

#[test]
fn u22_the_pid_of_another_live_process_is_stale_and_an_owner_is_opened_and_awaited() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    assert_eq!(owner(&path).expect("asked"), Owner::Absent);
    assert!(open_owner(&path).expect("asked").is_none());
    fs::write(&path, "1\n").expect("written");
    assert_eq!(owner(&path).expect("asked"), Owner::Stale);
    assert!(open_owner(&path).expect("asked").is_none());

    let mut peer = contestant(&path);
    assert_eq!(ask(&mut peer, "acquire"), "won");
    let (pid, handle) = open_owner(&path).expect("asked").expect("alive");
    assert_eq!(pid, peer.pid());
    let soon = Some(now() + Duration::from_millis(10));
    assert!(!pidfd_wait(&handle, soon).expect("waited"));
    pidfd_signal(&handle, Signal::Kill).expect("sent");
    let late = Some(now() + crate::sys::testing::PATIENCE);
    assert!(pidfd_wait(&handle, late).expect("waited"));
    assert_eq!(owner(&path).expect("asked"), Owner::Stale);
    peer.child.wait().expect("ours");
    let gone = pidfd_signal(&handle, Signal::Term).expect_err("gone");
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn u22_at_exit_the_file_of_another_process_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    let mut peer = contestant(&path);
    assert_eq!(ask(&mut peer, "acquire"), "won");
    fs::rename(&path, dir.path().join("app.pid.oldbin")).expect("renamed");
    fs::write(&path, "foreign").expect("written");
    assert_eq!(ask(&mut peer, "remove"), "removed");
    assert_eq!(fs::read_to_string(&path).expect("there"), "foreign");
    assert_eq!(litter(dir.path()), 2);
}

#[test]
fn only_a_regular_file_is_ever_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("dir")).expect("made");
    fs::write(path("target"), "precious").expect("made");
    std::os::unix::fs::symlink(path("target"), path("link")).expect("made");
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    for name in ["dir", "link", "fifo"] {
        let error = PidFile::acquire(&path(name)).expect_err("refused");
        assert_eq!(error.exit, Exit::System);
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
    assert_eq!(
        fs::read_to_string(path("target")).expect("there"),
        "precious"
    );
    assert!(owner(&path("dir")).is_err());
    assert!(owner(&path("fifo")).is_err());
    let error = PidFile::acquire(&path("no/such/dir.pid")).expect_err("refused");
    assert!(error.to_string().contains("No such file"), "{error}");
    assert_eq!(litter(dir.path()), 4);
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.pid");
    // A file size limit of 0 stands for the full disk. It is per process, so the contestant gets
    // it.
    let full = "ulimit -f 0; trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut peer = Peer::start_under(
        &["sh", "-c", full],
        "pidfile",
        &[path.to_str().expect("UTF-8")],
    );
    let told = ask(&mut peer, "acquire");
    assert!(
        told.starts_with("System ") && told.contains("File too large"),
        "{told}"
    );
    assert_eq!(litter(dir.path()), 0);
}

#[test]
fn the_descriptor_is_close_on_exec() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = PidFile::acquire(&dir.path().join("app.pid")).expect("taken");
    let flags = rustix::io::fcntl_getfd(file.fd()).expect("flags");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    assert!(file.path().is_absolute());
    file.remove().expect("removed");
    assert_eq!(litter(dir.path()), 0);
}

#[test]
fn u16_u19_the_lock_holds_while_the_file_is_renamed_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, aside) = (
        dir.path().join("app.pid"),
        dir.path().join("app.pid.oldbin"),
    );
    let alive = |path: &Path| owner(path).expect("asked");
    let (mut old, mut new) = (contestant(&path), contestant(&path));
    assert_eq!(ask(&mut old, "acquire"), "won");
    assert_eq!(ask(&mut old, "back"), "moved true");
    assert_eq!(
        alive(&path),
        Owner::Alive(old.pid()),
        "it was there already"
    );
    fs::hard_link(&path, &aside).expect("another name");
    assert_eq!(ask(&mut old, "aside"), "moved true");
    assert_eq!(ask(&mut old, "back"), "moved true");
    assert_eq!(
        (alive(&path), litter(dir.path())),
        (Owner::Alive(old.pid()), 1)
    );
    // A file that an earlier upgrade left is replaced; the file of a live process is not.
    fs::write(&aside, "1\n").expect("written");
    assert_eq!(ask(&mut old, "aside"), "moved true");
    assert_eq!(alive(&aside), Owner::Alive(old.pid()));
    assert_eq!(alive(&path), Owner::Absent);
    assert_eq!(ask(&mut new, "acquire"), "won");
    let told = ask(&mut old, "back");
    assert!(
        told.starts_with("Refused ") && told.contains("owns it"),
        "{told}"
    );
    assert_eq!(alive(&aside), Owner::Alive(old.pid()));
    let told = ask(&mut new, "aside");
    assert!(told.starts_with("Refused "), "{told}");
    // The new master removed its file, or it left a stale one.
    for end in ["remove", "leave"] {
        ask(&mut new, end);
        assert_eq!(ask(&mut old, "back"), "moved true");
        assert_eq!(alive(&path), Owner::Alive(old.pid()));
        assert_eq!(litter(dir.path()), 1);
        assert_eq!(ask(&mut old, "aside"), "moved true");
        assert_eq!(ask(&mut new, "acquire"), "won");
    }
    remove_stale(&aside).expect("owned");
    assert_eq!(alive(&aside), Owner::Alive(old.pid()), "an owned one stays");
    // After another process removed the file, it is not renamed, and no other file is touched.
    fs::remove_file(&aside).expect("there");
    ask(&mut new, "leave");
    assert_eq!(ask(&mut old, "back"), "moved false");
    assert_eq!(ask(&mut old, "remove"), "removed");
    assert_eq!(alive(&path), Owner::Stale);
    remove_stale(&path).expect("removed");
    remove_stale(&path).expect("nothing to do");
    assert_eq!(litter(dir.path()), 0);
}
