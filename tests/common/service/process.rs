//! What /proc tells about processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{FDTarget, Process, all_processes};

use super::until;

/// Sends a signal to a process of ours. A process that has ended is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid}");
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether it runs: neither gone nor a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    Process::new(pid)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Whether there is a process of this number, be it a zombie.
pub(crate) fn exists(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until it is gone.
#[track_caller]
pub(crate) fn gone(pid: i32) {
    until(&format!("the end of process {pid}"), || {
        (!alive(pid)).then_some(())
    });
}

/// All descendants of a process, zombies too, but for the guard: their pid and state.
pub(crate) fn descendants(ancestor: i32) -> Vec<(i32, char)> {
    let mut parents = BTreeMap::new();
    for process in all_processes().expect("/proc").flatten() {
        if let Ok(stat) = process.stat()
            && stat.comm != "pf-guard"
        {
            parents.insert(stat.pid, (stat.ppid, stat.state));
        }
    }
    let below = |mut pid: i32| {
        for _ in 0..parents.len() {
            match parents.get(&pid) {
                Some((parent, _)) if *parent == ancestor => return true,
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    parents
        .iter()
        .filter(|(pid, _)| below(**pid))
        .map(|(pid, (_, state))| (*pid, *state))
        .collect()
}

/// The numbers of its open descriptors, and what each is.
pub(crate) fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    let process = Process::new(pid).expect("it lives");
    let describe = |target| match target {
        FDTarget::Path(path) => path.display().to_string(),
        FDTarget::Socket(_) => "socket".to_owned(),
        FDTarget::Pipe(_) => "pipe".to_owned(),
        FDTarget::MemFD(name) => format!("memfd {name}"),
        other => format!("{other:?}"),
    };
    process
        .fd()
        .expect("readable")
        .flatten()
        .map(|fd| (fd.fd, describe(fd.target)))
        .collect()
}

/// Its environment, as it was given it.
pub(crate) fn environment(pid: i32) -> BTreeMap<String, String> {
    let read = || Process::new(pid).and_then(|process| process.environ()).ok();
    // During an exec the environment is empty for a moment, and a read of the old one ends early.
    let all = until("it has an environment", || {
        read().filter(|all| !all.is_empty() && read().as_ref() == Some(all))
    });
    let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
    all.into_iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// Its working directory.
pub(crate) fn cwd(pid: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it lives")
}

/// Its name, as `ps` has it.
pub(crate) fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// Waits until a script has become a waiting `sleep`. Before that, the shell still has its script
/// open, and the C library its tables.
#[track_caller]
pub(crate) fn wait_for_sleep(pid: i32) {
    wait_for_sleep_of(pid, "sleep");
}

/// The same of another program.
#[track_caller]
pub(crate) fn wait_for_sleep_of(pid: i32, program: &str) {
    until("it rests", || {
        (name(pid) == program && status(pid, "State").starts_with('S')).then_some(())
    });
}

/// A line of its /proc status.
pub(crate) fn status(pid: i32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("the field is there").trim().to_owned()
}
