//! Who descends from a process.

use std::fs;

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
        for pid in found {
            let process = crate::sys::pidfile::open_process(pid).expect("it is there");
            let _ = crate::sys::pidfile::pidfd_signal(&process, crate::model::sig::Sig::Kill);
        }
        shell.wait().expect("waited");
        assert!(descendants(own).is_empty());
    }
}
