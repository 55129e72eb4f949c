//! Who descends from a process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::fd::OwnedFd;

use super::pidfile;
use crate::model::sig::Sig;

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
    let mut held: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let known = held.len();
        for pid in descendants(ancestor) {
            if pid.unsigned_abs() != std::process::id()
                && let Entry::Vacant(place) = held.entry(pid)
                && let Ok(process) = pidfile::open_process(pid)
            {
                place.insert(process);
            }
        }
        // Whose number was another's by the time that it was opened is not among them now.
        let still = descendants(ancestor);
        held.retain(|pid, _| still.contains(pid));
        if !is_there() {
            return;
        }
        for process in held.values() {
            let _ = pidfile::pidfd_signal(process, Sig::Stop);
        }
        if held.len() <= known {
            break;
        }
    }
    for process in held.values() {
        let _ = pidfile::pidfd_signal(process, Sig::Kill);
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
        pidfile::pidfd_signal(&process, Sig::Stop).expect("sent");
        kill_descendants(own, &|| true);
        pidfile::pidfd_signal(&process, Sig::Cont).expect("sent");
        // It has waited for them.
        assert!(shell.wait().expect("waited").success());
    }
}
