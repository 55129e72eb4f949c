//! Tells that a path may name another file than before: inotify(7) on the file itself.
//!
//! The directory is not watched: what other programs do in `/run` would wake us.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// What stands at the path of a file or socket of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtPath {
    /// What we have put there.
    Ours,
    /// Nothing: it was removed or moved away.
    Nothing,
    /// What another process has put there.
    Another,
}

impl AtPath {
    /// Looks; `inode`: device and inode of ours.
    ///
    /// # Errors
    /// What lstat(2) said, but ENOENT: what stands there is not known.
    pub fn of(path: &Path, inode: (u64, u64)) -> io::Result<AtPath> {
        match fs::symlink_metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == inode => Ok(AtPath::Ours),
            Ok(_) => Ok(AtPath::Another),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AtPath::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Room for some events without a name.
const BUFFER: usize = 512;

/// Watches files that have been given a path.
#[derive(Debug)]
pub struct PathWatch {
    inotify: OwnedFd,
}

impl PathWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// What inotify_init1(2) said: EMFILE where this user has too many already, ENOSYS.
    pub fn new() -> io::Result<PathWatch> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(PathWatch { inotify })
    }

    /// Watches the file that this path names now. A file is watched once, however often this is
    /// called for it, and no longer than it exists.
    ///
    /// # Errors
    /// What inotify_add_watch(2) said: ENOENT, ENOSPC where this user has too many already.
    pub fn add(&self, path: &Path) -> io::Result<()> {
        // A file that another process holds open still exists when its last name is removed: that
        // its number of names has changed is then a change of its attributes.
        let flags = WatchFlags::ATTRIB
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::DONT_FOLLOW;
        inotify::add_watch(&self.inotify, path, flags)?;
        Ok(())
    }

    /// Readable when one of the paths may name another file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Reads what has happened: after this, only what happens later makes it readable.
    pub fn drain(&self) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        while events.next().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::io::poll::{Interest, PollSet, Poller};
    use crate::sys::machine::clock;

    fn is_readable(watch: &PathWatch) -> bool {
        let mut set = PollSet::new();
        set.add((), watch.fd(), Interest::READ);
        let ready = set.wait(&mut Poller::new(), Some(clock::now()));
        ready.expect("poll").is_ready(())
    }

    #[test]
    fn a_file_that_is_removed_moved_or_replaced_is_told_once_and_its_neighbours_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let other = dir.path().join("other");
        let watch = PathWatch::new().expect("inotify");
        for change in ["remove", "move", "replace"] {
            // Held open, as a locked pid file is.
            let held = fs::File::create(&path).expect("created");
            watch.add(&path).expect("watched");
            fs::write(&other, "a neighbour").expect("written");
            assert!(!is_readable(&watch), "{change}");
            match change {
                "remove" => fs::remove_file(&path).expect("removed"),
                "move" => fs::rename(&path, dir.path().join("aside")).expect("moved"),
                _ => fs::rename(&other, &path).expect("replaced"),
            }
            assert!(is_readable(&watch), "{change}");
            watch.drain();
            assert!(!is_readable(&watch), "{change}");
            // A last one tells that it is watched no more.
            drop(held);
            watch.drain();
        }
    }
}
