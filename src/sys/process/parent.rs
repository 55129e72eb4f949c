//! What one process does about the parent that started it: ends it, or ends with it.

use std::io;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid, getsid};

/// Sends TERM to the process `pid` if it is (still) our parent, and not the system's first process.
/// False if it is not.
///
/// # Errors
/// EPERM: the parent runs as another user.
pub fn terminate_parent(pid: i32) -> io::Result<bool> {
    let parent = getppid();
    // getppid(2) makes this safe: when our parent ends, the number changes, so a reused pid is
    // never our parent's.
    if pid <= 1 || parent.as_raw() != pid {
        return Ok(false);
    }
    kill(parent, Signal::SIGTERM)?;
    Ok(true)
}

/// The pid of our parent.
pub fn pid() -> i32 {
    getppid().as_raw()
}

/// Whether a process is in the session that this process is in.
pub fn is_in_our_session(pid: i32) -> bool {
    let of = |pid: i32| getsid(Some(Pid::from_raw(pid))).ok();
    of(pid).is_some() && of(pid) == of(0)
}

/// Whether `pid` is our parent.
pub fn is_parent(pid: i32) -> bool {
    getppid().as_raw() == pid
}

/// Whether this process's parent is the holder that `PF_HOLD` names. The variable is also in the
/// environment of processes further down the chain; there the parent differs.
pub fn is_holder(holder: Option<&str>) -> bool {
    holder.and_then(|pid| pid.parse().ok()) == Some(getppid().as_raw())
}

/// Makes the kernel send TERM to this process when its parent dies, if the parent is the holder
/// that `PF_HOLD` names. The holder has armed that already before it executed anything, but a
/// change of user in the chain clears it (prctl(2)).
pub fn die_with_holder(holder: Option<&str>) {
    let parent = getppid();
    if is_holder(holder) {
        let _ = set_pdeathsig(Signal::SIGTERM);
        if getppid() != parent {
            let _ = nix::sys::signal::raise(Signal::SIGTERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_only_the_parent_gets_term_and_never_init() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        for pid in [own, 1, 0, -1] {
            assert!(!terminate_parent(pid).expect("nothing sent"), "{pid}");
        }
        assert!(!is_parent(own));
        assert!(is_parent(getppid().as_raw()));
    }
}
