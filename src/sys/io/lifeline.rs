//! A lifeline: a descriptor whose other end some processes hold, and which ends when one of them
//! writes a byte or all have closed theirs (P6).
//!
//! It is never read. A byte stays in it, so that of two masters which have the same lifeline both
//! see it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::ioctl_fionread;

use super::fd;
use super::left_open::LeftOpen;
use super::poll::{Interest, Poller};
use crate::error::{Error, Result, reason};
use crate::model::event::LifelineEnd;
use crate::model::time::Time;

/// Standard input, which stays open for the next image and for a new master by itself.
const STDIN: RawFd = 0;

/// The descriptor.
#[derive(Debug)]
pub struct Lifeline {
    /// Close-on-exec. Of standard input: a copy.
    fd: OwnedFd,
    number: RawFd,
}

impl Lifeline {
    /// Takes the inherited descriptor of this number.
    ///
    /// # Errors
    /// Exit 111: it is not open. Exit 2: it has no other end that could be closed or written to.
    pub fn inherit(number: RawFd) -> Result<Lifeline> {
        let fd = match number {
            STDIN => fd::duplicate(number)?,
            _ => fd::adopt(number)?,
        };
        check(fd.as_fd(), number)?;
        Ok(Lifeline { fd, number })
    }

    /// The lifeline of the image before. The owner must not drop it before the take-over has
    /// succeeded.
    ///
    /// # Errors
    /// It was not handed over, or standard input has no other end: the option may be new, and
    /// then no image has looked at it before.
    pub fn taken_over(number: RawFd, left: &mut LeftOpen) -> io::Result<Lifeline> {
        if number == STDIN {
            return Lifeline::inherit(number).map_err(|error| io::Error::other(error.to_string()));
        }
        let fd = left.take(number)?;
        Ok(Lifeline { fd, number })
    }

    /// Its number, as the command line has it.
    pub fn number(&self) -> RawFd {
        self.number
    }

    /// What has to be kept open for the next image, and given to a new master. None: standard
    /// input, which both have by themselves.
    pub fn handed_on(&self) -> Option<RawFd> {
        (self.number != STDIN).then_some(self.number)
    }

    /// Readable when it has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How it has ended; None: it has not.
    pub fn end(&self) -> Option<LifelineEnd> {
        let mut poller = Poller::new();
        let ready = poller.wait(&[(self.fd(), Interest::READ)], Some(Time(0)));
        if !ready.is_ok_and(|ready| ready.iter().any(|ready| ready.any())) {
            return None;
        }
        // Without that call, there is something to be read, whatever it is.
        match ioctl_fionread(&self.fd) {
            Ok(0) => Some(LifelineEnd::NoHolder),
            Ok(_) | Err(_) => Some(LifelineEnd::Byte),
        }
    }
}

/// Only a pipe or a socket has another end; a file, say, is always readable.
fn check(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    let failed = |errno: rustix::io::Errno| {
        Error::system(
            format!("--lifeline-fd {number}"),
            reason(io::Error::from(errno)),
        )
    };
    let kind = FileType::from_raw_mode(fstat(fd).map_err(failed)?.st_mode);
    let access = fcntl_getfl(fd).map_err(failed)? & OFlags::ACCMODE;
    let wrong = match kind {
        FileType::Fifo if access == OFlags::WRONLY => {
            "this is the end of a pipe that is written to"
        }
        FileType::Fifo | FileType::Socket => return Ok(()),
        _ => "it is no pipe and no socket",
    };
    let text = format!("--lifeline-fd {number}: {wrong}");
    Err(Error::usage(text).hint("give it the reading end of a pipe"))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    fn lifeline() -> (Lifeline, PipeWriter) {
        let (ours, theirs) = io::pipe().expect("a pipe");
        let number = ours.as_raw_fd();
        fd::set_cloexec(number, false).expect("open");
        (
            Lifeline::inherit(ours.into_raw_fd()).expect("a pipe"),
            theirs,
        )
    }

    #[test]
    fn p6_a_byte_or_the_end_of_the_last_holder_ends_it() {
        let (line, mut holder) = lifeline();
        let other = holder.try_clone().expect("a copy");
        assert_eq!(line.end(), None);
        drop(other);
        assert_eq!(line.end(), None);
        holder.write_all(b"x").expect("written");
        // It is not read: the other of two masters sees it, too.
        assert_eq!(line.end(), Some(LifelineEnd::Byte));
        assert_eq!(line.end(), Some(LifelineEnd::Byte));
        let (line, holder) = lifeline();
        drop(holder);
        assert_eq!(line.end(), Some(LifelineEnd::NoHolder));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        fd::set_cloexec(ours.as_raw_fd(), false).expect("open");
        let line = Lifeline::inherit(ours.into_raw_fd()).expect("a socket");
        assert_eq!(line.end(), None);
        drop(theirs);
        assert_eq!(line.end(), Some(LifelineEnd::NoHolder));
    }

    #[test]
    fn what_has_no_other_end_is_wrong_usage() {
        let (_ours, theirs) = io::pipe().expect("a pipe");
        for (wrong, why) in [
            (fd::null().expect("open").into_raw_fd(), "no pipe"),
            (theirs.into_raw_fd(), "written to"),
        ] {
            fd::set_cloexec(wrong, false).expect("open");
            let error = Lifeline::inherit(wrong).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(Lifeline::inherit(1 << 20).is_err());
    }
}
