//! The session that this process is in.

use nix::unistd::{Pid, getpid, getsid};

/// The pid of the leader of our session; 0: a process of another pid namespace.
pub fn leader() -> i32 {
    getsid(None).map_or(0, Pid::as_raw)
}

/// Whether this process leads its session.
pub fn is_led_by_us() -> bool {
    getsid(None).is_ok_and(|leader| leader == getpid())
}
