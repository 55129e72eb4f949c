//! The descriptors that the previous image of this process left open for this one.
//!
//! They are taken over as they are and never copied: an image that needs twice as many descriptors
//! as the service has would end the service at the limit. Until the take-over has succeeded they
//! also stay open across an exec, so that the way back to the previous image is one exec and
//! nothing else.
#![expect(unsafe_code, reason = "takes over descriptors by number")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::fd;
use crate::error::{Error, Result};

/// Descriptors that were left open, and that nothing in this image owns yet.
#[derive(Debug)]
pub struct LeftOpen {
    /// All of them, taken or not.
    all: Vec<RawFd>,
    free: BTreeSet<RawFd>,
}

impl LeftOpen {
    /// Checks that each is open, was left open across the exec, and is named once. So none of them
    /// can be a descriptor that this image has opened.
    ///
    /// # Errors
    /// Exit 111: one is not open, or is named twice.
    pub fn check(numbers: Vec<RawFd>) -> Result<LeftOpen> {
        let mut free = BTreeSet::new();
        for number in &numbers {
            let wrong = |why| Error::system(format!("cannot take over fd {number}"), why);
            if !fd::survives_exec(*number) {
                return Err(wrong("it is not open"));
            }
            if !free.insert(*number) {
                return Err(wrong("it was handed over twice"));
            }
        }
        Ok(LeftOpen { all: numbers, free })
    }

    /// Takes one over. The owner of the result must not drop it before the take-over has succeeded:
    /// it would be missing on the way back.
    ///
    /// # Errors
    /// EBADF: it was not among those that were checked, or was taken already.
    pub fn take(&mut self, number: RawFd) -> io::Result<OwnedFd> {
        if !self.free.remove(&number) {
            return Err(Errno::EBADF.into());
        }
        // SAFETY: it is open, and nothing else owns it: it survived the exec, everything that this
        // process has opened since is close-on-exec, and it is handed out once.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Makes all of them close-on-exec, as every descriptor of this process is: there is no way
    /// back any more. One that was closed meanwhile is passed over.
    ///
    /// # Errors
    /// What fcntl(2) said of one that cannot be marked; all others are marked. No worker gets it
    /// all the same: a worker gets nothing but what it is given.
    pub fn close_on_exec(&self) -> nix::Result<()> {
        let mut result = Ok(());
        for number in &self.all {
            match fd::set_cloexec(*number, true) {
                Ok(()) | Err(Errno::EBADF) => {}
                failed => result = failed,
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn each_descriptor_is_taken_once_and_only_what_was_left_open() {
        let open = |survives: bool| {
            let number = fd::null().expect("open").into_raw_fd();
            fd::set_cloexec(number, !survives).expect("open");
            number
        };
        let (left, own) = (open(true), open(false));
        for (numbers, why) in [
            (vec![left, own], "it is not open"),
            (vec![left, 1 << 20], "it is not open"),
            (vec![-1], "it is not open"),
            (vec![left, left], "it was handed over twice"),
        ] {
            let error = LeftOpen::check(numbers).expect_err(why).to_string();
            assert!(error.ends_with(why), "{error}");
        }
        let mut checked = LeftOpen::check(vec![left]).expect("as it should be");
        let taken = checked.take(left).expect("open");
        assert_eq!(taken.as_raw_fd(), left);
        assert!(checked.take(left).is_err() && checked.take(own).is_err());
        assert!(fd::survives_exec(left));
        checked.close_on_exec().expect("open");
        assert!(!fd::survives_exec(left));
        fd::set_cloexec(own, false).expect("open");
        drop(fd::adopt(own));
    }
}
