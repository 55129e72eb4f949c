//! Who descends from a process.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;

use crate::model::signal::Signal;
use crate::sys::files::pidfile;

/// How often it is looked who descends from one that is to be killed with all its kin: each is stopped when it is seen, and what it had begun by then is
/// seen the next time.
const ROUNDS: usize = 20;

/// All that descend from a process: its children, and theirs. Those of a process that has ended are its heir's, and are not found here; nor
/// is anybody where the kernel does not list children (CONFIG_PROC_CHILDREN).
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut all = Vec::new();
    let mut ancestors = vec![pid];
    while let Some(ancestor) = ancestors.pop() {
        let tasks = fs::read_dir(format!("/proc/{ancestor}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = listed.split_whitespace().flat_map(str::parse::<i32>);
            // The world changes meanwhile: nobody is looked at twice.
            let new: Vec<i32> = children.filter(|child| !all.contains(child)).collect();
            all.extend(&new);
            ancestors.extend(new);
        }
    }
    all
}

/// Kills all that descend from a process that has been stopped. Its number must be its own all the time: `is_there` is asked after each look, and tells
/// whether it still was. Whoever does it goes on, even as one of them.
pub fn kill_descendants(ancestor: i32, is_there: &dyn Fn() -> bool) {
    let own = i32::try_from(std::process::id());
    let mut held: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let new = descendants(ancestor);
        let new = new
            .into_iter()
            .filter(|pid| Ok(*pid) != own && !held.contains_key(pid));
        let mut new: BTreeMap<i32, OwnedFd> = new
            .filter_map(|pid| Some((pid, pidfile::open_process(pid).ok()?)))
            .collect();
        // Whose number was another's by the time that it was opened is not among them now.
        let still = descendants(ancestor);
        new.retain(|pid, _| still.contains(pid));
        // Those that were stopped before end all the same: nobody else would let them go on.
        if new.is_empty() || !is_there() {
            break;
        }
        for process in new.values() {
            let _ = pidfile::pidfd_signal(process, Signal::Stop);
        }
        held.append(&mut new);
    }
    for process in held.values() {
        let _ = pidfile::pidfd_signal(process, Signal::Kill);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_and_theirs_are_found() {
        let mut shell = Command::new("sh")
            .args(["-c", "(sleep 1000 & sleep 1000 & echo; wait) & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let told = shell.stdout.as_mut().expect("piped").read_exact(&mut [0]);
        told.expect("both are started");
        let own = i32::try_from(shell.id()).expect("a pid");
        let found = descendants(own);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|pid| *pid != own));
        let process = pidfile::open_process(own).expect("ours");
        pidfile::pidfd_signal(&process, Signal::Stop).expect("sent");
        kill_descendants(own, &|| true);
        pidfile::pidfd_signal(&process, Signal::Cont).expect("sent");
        // It has waited for them.
        assert!(shell.wait().expect("waited").success());
    }

    #[test]
    fn whoever_was_stopped_ends_also_if_the_ancestor_goes_meanwhile() {
        let script = "sleep 1000 & echo; read x; sleep 1000 & echo; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let own = i32::try_from(shell.id()).expect("a pid");
        let mut told = shell.stdout.take().expect("piped");
        told.read_exact(&mut [0]).expect("one is started");
        let first = descendants(own);
        let mut door = shell.stdin.take();
        let looks = std::cell::Cell::new(0);
        let told = std::cell::RefCell::new(told);
        let door = std::cell::RefCell::new(&mut door);
        kill_descendants(own, &|| {
            looks.set(looks.get() + 1);
            // Another comes, and then the number counts no more.
            if let Some(door) = door.borrow_mut().take() {
                drop(door);
                told.borrow_mut().read_exact(&mut [0]).expect("another one");
            }
            looks.get() == 1
        });
        assert_eq!(looks.get(), 2);
        // The shell reaps it.
        let until = crate::sys::machine::clock::now() + crate::sys::testing::PATIENCE;
        while descendants(own).contains(&first[0]) {
            assert!(
                crate::sys::machine::clock::now() < until,
                "it is left, and stopped"
            );
            crate::sys::machine::clock::pause(std::time::Duration::from_millis(1));
        }
        assert_eq!(descendants(own).len(), 1, "the other one was not touched");
        kill_descendants(own, &|| true);
        assert!(shell.wait().expect("waited").success());
    }
}
