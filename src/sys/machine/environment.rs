//! This process's own environment: reading all of it, and the only code that changes it.
#![expect(
    unsafe_code,
    reason = "removing a variable, which another thread might be reading"
)]

use std::ffi::{OsStr, OsString};

use super::memory;
use crate::wire::environment::Environment;

/// All variables of this process. It has to be one of our programs: what is free in the heap goes
/// back to the kernel, which in the process of a worker is not ours to decide.
pub fn own() -> Environment {
    let own = std::env::vars_os().collect();
    // The standard library has copied each name and each value to an allocation of its own: for a
    // long environment several times its length, which nothing needs any more.
    memory::give_free_pages_back();
    own
}

/// Removes the variables whose names `which` accepts, so that no child takes them for its own.
/// Returns whether it did.
///
/// To change the environment while another thread reads it is undefined behaviour, and the C
/// library reads it in many places; so [`std::env::remove_var`] is unsafe. This function changes
/// nothing unless this is the only thread of the process: call it first in `main`, before threads
/// and runtimes are started. If it returns false, leave the variables out where the child is
/// started.
pub fn remove_variables(which: impl Fn(&OsStr) -> bool) -> bool {
    if threads() != Some(1) {
        return false;
    }
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| which(name)) {
        #[expect(
            clippy::disallowed_methods,
            reason = "a library cannot choose the environment that its own process was given"
        )]
        // SAFETY: the kernel has just listed the threads of this process, and there is one: this
        // one. Only this thread could start another, and it does not before the call returns.
        unsafe {
            std::env::remove_var(name);
        }
    }
    true
}

/// How many threads this process has; None where that cannot be read.
pub fn threads() -> Option<usize> {
    // An entry that cannot be read may be a thread, so a partial list is no answer.
    let listed: std::io::Result<Vec<_>> = std::fs::read_dir("/proc/self/task").ok()?.collect();
    Some(listed.ok()?.len())
}

#[cfg(test)]
pub(crate) mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::sys::testing::{Peer, Talk};

    /// The role: this process has a second thread, the test harness's, which waits. A forked child
    /// has one thread, however many its parent has.
    pub fn play(talk: &mut Talk) {
        // SAFETY: no thread holds a lock that the child takes, as the other thread waits for this
        // one; the child ends by itself.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let done = remove_variables(|name| name == "PATH");
                let gone = std::env::var_os("PATH").is_none();
                let others = std::env::vars_os().next().is_some();
                // SAFETY: the end of a forked child.
                unsafe { nix::libc::_exit(if done && gone && others { 0 } else { 1 }) }
            }
            ForkResult::Parent { child } => {
                let ended = waitpid(child, None).expect("our own child");
                let removed = matches!(ended, WaitStatus::Exited(_, 0));
                talk.say(if removed { "removed" } else { "not removed" });
            }
        }
    }

    #[test]
    fn alone_in_its_process_it_removes_what_was_named() {
        let mut peer = Peer::start("environment", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("removed"));
    }

    #[test]
    fn with_several_threads_nothing_is_changed() {
        let (say, wait) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || wait.recv());
            assert!(threads() >= Some(2));
            assert!(!remove_variables(|name| name == "PATH"));
            drop(say);
        });
        assert!(std::env::var_os("PATH").is_some());
    }
}
