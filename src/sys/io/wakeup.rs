//! Wakes a thread that waits on descriptors, by an eventfd(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Readable after [`wake`](Self::wake), until [`clear`](Self::clear).
#[derive(Debug)]
pub struct Wakeup(OwnedFd);

impl Wakeup {
    /// A wakeup that is not readable yet.
    ///
    /// # Errors
    /// What eventfd(2) said: EMFILE, ENFILE.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Wakeup(eventfd(0, flags)?))
    }

    /// Wakes the thread that waits on it, in this wait or in the next one. Never blocks.
    pub fn wake(&self) {
        // EAGAIN: the counter is full, so it is readable anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable. True if it was readable.
    pub fn clear(&self) -> bool {
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
    fn several_wakes_are_cleared_at_once() {
        let wakeup = Wakeup::new().expect("made");
        assert!(!wakeup.clear());
        wakeup.wake();
        wakeup.wake();
        assert!(wakeup.clear());
        assert!(!wakeup.clear());
    }
}
