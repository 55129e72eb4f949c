//! The signal mask of this thread: blocking every signal for a while, and unblocking them again.

use nix::sys::signal::{SigSet, SigmaskHow};

/// The signal mask of a thread, to be restored.
#[derive(Debug)]
#[must_use = "the signals stay blocked until the mask is restored"]
pub struct Mask(SigSet);

/// Blocks every signal in this thread.
pub fn block_all() -> Mask {
    // It fails only for a bad `how`; the mask is then as it was, and the master's own is empty.
    let old = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK);
    Mask(old.unwrap_or_else(|_| SigSet::empty()))
}

/// Restores the mask; signals that were blocked meanwhile arrive now.
pub fn restore(mask: Mask) {
    let _ = mask.0.thread_set_mask();
}

/// Unblocks every signal: those that were blocked arrive now.
pub fn unblock_all() {
    restore(Mask(SigSet::empty()));
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal as NixSignal;

    use super::*;

    #[test]
    fn a_blocked_mask_is_put_back() {
        let before = SigSet::thread_get_mask().expect("mask");
        let mask = block_all();
        assert!(
            SigSet::thread_get_mask()
                .expect("mask")
                .contains(NixSignal::SIGUSR2)
        );
        restore(mask);
        assert_eq!(SigSet::thread_get_mask().expect("mask"), before);
    }
}
