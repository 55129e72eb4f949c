//! The disposition that this process has for a signal.
#![expect(unsafe_code, reason = "sigaction(2) with signals of any number")]

use nix::libc;

/// Whether this process ignores the signal `number`.
pub(super) fn is_ignored(number: i32) -> bool {
    // SAFETY: all zeroes is a valid sigaction, and the call only reads.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rust_runtime_ignores_sigpipe_alone() {
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGURG));
        assert!(!is_ignored(-1));
    }
}
