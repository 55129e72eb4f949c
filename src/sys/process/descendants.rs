//! The descendants of a process: listing them, and killing them all.

use std::collections::BTreeMap;
use std::fs;

use super::proc_info;
use crate::model::signal::Signal;
use crate::sys::process::pidfd::HeldProcess;

/// How many times [`kill_descendants`] lists the descendants. Each one found is stopped; a child
/// that it started before it was stopped is found in the next round.
const ROUNDS: usize = 20;

/// The descendants of a process: its children, their children, and so on. Children of a process
/// that has ended belong to pid 1 or a subreaper and are not found. The list is empty without a
/// /proc of this pid namespace.
pub fn descendants(pid: i32) -> Vec<i32> {
    descendants_of(vec![pid])
}

/// The children of this process that are not `known`, and all descendants of these: what came to
/// this process as a subreaper, or as pid 1.
pub fn adopted(known: &dyn Fn(i32) -> bool) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let listing = Listing::new(own);
    let mut adopted = listing.children(own);
    adopted.retain(|child| !known(*child));
    // By far the most frequent answer.
    if !adopted.is_empty() {
        adopted.extend(descendants_of(adopted.clone()));
    }
    adopted
}

fn descendants_of(mut ancestors: Vec<i32>) -> Vec<i32> {
    let mut all = Vec::new();
    let Some(first) = ancestors.first() else {
        return all;
    };
    if !proc_info::is_ours() {
        // Its numbers are those of other processes.
        return all;
    }
    let listing = Listing::new(*first);
    while let Some(ancestor) = ancestors.pop() {
        // Processes come and go while we read: skip the pids that we have seen, so that the loop
        // ends.
        let children = listing.children(ancestor).into_iter();
        let new: Vec<i32> = children.filter(|child| !all.contains(child)).collect();
        all.extend(&new);
        ancestors.extend(new);
    }
    all
}

/// Where the children of a process are listed.
enum Listing {
    /// By the kernel, for each thread.
    Kernel,
    /// Nowhere (CONFIG_PROC_CHILDREN is off): the children by their parents, from one scan of
    /// /proc.
    Scanned(BTreeMap<i32, Vec<i32>>),
}

impl Listing {
    fn new(pid: i32) -> Listing {
        let listed = fs::exists(format!("/proc/{pid}/task/{pid}/children"));
        if listed.is_ok_and(|listed| listed) {
            return Listing::Kernel;
        }
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|it| it.parse().ok());
            if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, proc_info::parent(pid)?))) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Listing::Scanned(children)
    }

    fn children(&self, pid: i32) -> Vec<i32> {
        match self {
            Listing::Scanned(children) => children.get(&pid).cloned().unwrap_or_default(),
            Listing::Kernel => {
                let tasks = fs::read_dir(format!("/proc/{pid}/task"));
                let tasks = tasks.into_iter().flatten().flatten();
                let listed =
                    tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
                let numbers = |listed: String| -> Vec<i32> {
                    let words = listed.split_whitespace();
                    words.flat_map(str::parse).collect()
                };
                listed.flat_map(numbers).collect()
            }
        }
    }
}

/// Kills all descendants of `ancestor`, which the caller has stopped. The number must stay the
/// ancestor's own: `is_there` is called after each listing and returns whether it still is. The
/// calling process is spared, even when it is itself a descendant. Returns those that were sent
/// KILL, by their pids: a process of another user may live on.
pub fn kill_descendants(ancestor: i32, is_there: &dyn Fn() -> bool) -> BTreeMap<i32, HeldProcess> {
    let own = i32::try_from(std::process::id());
    let mut stopped: BTreeMap<i32, HeldProcess> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let new = descendants(ancestor);
        let new = new
            .into_iter()
            .filter(|pid| Ok(*pid) != own && !stopped.contains_key(pid));
        let mut opened: BTreeMap<i32, HeldProcess> = new
            .filter_map(|pid| Some((pid, HeldProcess::open(pid).ok()?)))
            .collect();
        // A pid may have been reused between the listing and the open: then it is not in this
        // second list.
        let listed_again = descendants(ancestor);
        opened.retain(|pid, _| listed_again.contains(pid));
        // Those that were stopped in earlier rounds are killed all the same: no other process would
        // continue them.
        if opened.is_empty() || !is_there() {
            break;
        }
        for process in opened.values() {
            let _ = process.signal(Signal::Stop);
        }
        stopped.append(&mut opened);
    }
    for process in stopped.values() {
        let _ = process.signal(Signal::Kill);
    }
    stopped
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_and_grandchildren_are_found() {
        let mut shell = Command::new("sh")
            .args(["-c", "(sleep 1000 & sleep 1000 & echo; wait) & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let output = shell.stdout.as_mut().expect("piped").read_exact(&mut [0]);
        output.expect("both are started");
        let own = i32::try_from(shell.id()).expect("a pid");
        let found = descendants(own);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|pid| *pid != own));
        let process = HeldProcess::open(own).expect("ours");
        process.signal(Signal::Stop).expect("sent");
        kill_descendants(own, &|| true);
        process.signal(Signal::Cont).expect("sent");
        // It has waited for them.
        assert!(shell.wait().expect("waited").success());
    }

    #[test]
    fn stopped_descendants_are_killed_when_the_ancestor_goes_meanwhile() {
        let script = "sleep 1000 & echo; read x; sleep 1000 & echo; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let own = i32::try_from(shell.id()).expect("a pid");
        let mut output = shell.stdout.take().expect("piped");
        output.read_exact(&mut [0]).expect("one is started");
        let first = descendants(own);
        let mut input = shell.stdin.take();
        let looks = std::cell::Cell::new(0);
        let output = std::cell::RefCell::new(output);
        let input = std::cell::RefCell::new(&mut input);
        kill_descendants(own, &|| {
            looks.set(looks.get() + 1);
            // Another comes, and then the number counts no more.
            if let Some(input) = input.borrow_mut().take() {
                drop(input);
                output
                    .borrow_mut()
                    .read_exact(&mut [0])
                    .expect("another one");
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
