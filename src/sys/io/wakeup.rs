//! Waking a thread that waits on descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Readable from a nudge until it is taken.
#[derive(Debug)]
pub struct Wakeup(OwnedFd);

impl Wakeup {
    /// Not nudged.
    ///
    /// # Errors
    /// What eventfd(2) said: EMFILE, ENFILE.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Wakeup(eventfd(0, flags)?))
    }

    /// Wakes whoever waits, now or next. Never blocks.
    pub fn nudge(&self) {
        // Full, it is readable all the same.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes all nudges so far; whether there were any.
    pub fn take(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nudges_merge_and_are_taken_once() {
        let nudge = Wakeup::new().expect("made");
        assert!(!nudge.take());
        nudge.nudge();
        nudge.nudge();
        assert!(nudge.take());
        assert!(!nudge.take());
    }
}
