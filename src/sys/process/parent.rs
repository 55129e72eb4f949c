//! One process in the place of another that started it, where no master stands above the two.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

/// Tells the process `pid` to finish, by TERM, if it is our parent (still), and not the system's first process.
///
/// # Errors
/// EPERM: it runs as somebody else.
pub fn tell_parent(pid: i32) -> io::Result<bool> {
    let parent = getppid();
    // A number that was given to another process by now is not our parent's; and a parent cannot end without ours changing.
    if pid <= 1 || parent.as_raw() != pid {
        return Ok(false);
    }
    kill(parent, Signal::SIGTERM)?;
    Ok(true)
}

/// Whether `pid` is our parent.
pub fn is_parent(pid: i32) -> bool {
    getppid().as_raw() == pid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g7_nobody_but_the_parent_is_told_and_never_init() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        for pid in [own, 1, 0, -1] {
            assert!(!tell_parent(pid).expect("nothing sent"), "{pid}");
        }
        assert!(!is_parent(own));
        assert!(is_parent(getppid().as_raw()));
    }
}
