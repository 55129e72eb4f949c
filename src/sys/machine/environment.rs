//! This process's own environment: the one place that changes it.
#![expect(
    unsafe_code,
    reason = "removing a variable, which another thread might be reading"
)]

use std::ffi::{OsStr, OsString};

/// Removes the variables with such names, so that no child takes for its own what was meant for us; whether it did.
///
/// Changing the environment while another thread reads it (the C library does so in many places) is undefined, which is why
/// [`std::env::remove_var`] is unsafe. So it is done only where this is the one thread of the process: what to call first in `main`, before
/// threads and runtimes are started. Else nothing is changed, and who wants a child not to have the variables says so where it starts the child.
pub fn forget(which: impl Fn(&OsStr) -> bool) -> bool {
    if threads() != Some(1) {
        return false;
    }
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| which(name)) {
        #[expect(
            clippy::disallowed_methods,
            reason = "a library cannot choose the environment that its own process was given"
        )]
        // SAFETY: the kernel has just listed the threads of this process, and there is one: this one, which alone could start another, and does
        // not before the call returns.
        unsafe {
            std::env::remove_var(name);
        }
    }
    true
}

/// How many threads this process has; None where that cannot be seen.
pub fn threads() -> Option<usize> {
    // What cannot be read may be a thread, so it is no answer at all.
    let listed: std::io::Result<Vec<_>> = std::fs::read_dir("/proc/self/task").ok()?.collect();
    Some(listed.ok()?.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::sys::testing::{Peer, Talk};

    /// In a process whose other thread, the harness's, waits: a child of it has one thread, whatever this one has.
    pub fn play(talk: &mut Talk) {
        // SAFETY: nobody holds a lock that the child takes, as the other thread waits for this one; the child ends by itself.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let done = forget(|name| name == "PATH");
                let gone = std::env::var_os("PATH").is_none();
                let others = std::env::vars_os().next().is_some();
                // SAFETY: the end of a forked child.
                unsafe { nix::libc::_exit(if done && gone && others { 0 } else { 1 }) }
            }
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).expect("our own child");
                let forgotten = matches!(ended, WaitStatus::Exited(_, 0));
                talk.say(if forgotten {
                    "forgotten"
                } else {
                    "not forgotten"
                });
            }
        }
    }

    #[test]
    fn alone_in_its_process_it_removes_what_was_named() {
        let mut peer = Peer::start("environment", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("forgotten"));
    }

    #[test]
    fn with_several_threads_nothing_is_changed() {
        let (say, wait) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || wait.recv());
            assert!(threads() >= Some(2));
            assert!(!forget(|name| name == "PATH"));
            drop(say);
        });
        assert!(std::env::var_os("PATH").is_some());
    }
}
