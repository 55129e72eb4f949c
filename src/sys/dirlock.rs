//! A lock on a directory, for what must look at a name in it and then replace it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::clock::now;
use crate::sys::poll::Poller;

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Held until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _fd: OwnedFd,
}

/// Locks the directory that `path` lies in; waits 5 s at most.
///
/// # Errors
/// The directory cannot be opened, or another holds it for longer.
pub fn lock_dir_of(path: &Path) -> Result<DirLock> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let what = || format!("cannot lock directory {}", dir.display());
    let fd = OwnedFd::from(File::open(dir).map_err(|error| Error::system(what(), error))?);
    let deadline = now() + PATIENCE;
    loop {
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(DirLock { _fd: fd }),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if now() < deadline => {
                let pause = Some(now() + PAUSE);
                Poller::new()
                    .wait(&[], pause)
                    .map_err(|error| Error::system(what(), error))?;
            }
            Err(errno) => return Err(Error::system(what(), errno)),
        }
    }
}
