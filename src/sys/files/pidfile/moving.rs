//! A pid file under another name: the old master's, while a new one beside it has the name (U16, U19).
//!
//! The lock belongs to the file, whatever it is called, and so it stays ours all the time. What is in the way is replaced only while we hold its lock
//! too, as at a start.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{PidFile, TRIES, existing, holder, lock, names, taken};
use crate::error::{Error, Result};

enum Step {
    Moved,
    Taken(i32),
    /// Another was faster: look again.
    Raced,
}

impl PidFile {
    /// Gives our file the name `to`. False if it does not have its name any more, since somebody removed or replaced it: then nothing is moved,
    /// and nothing of others will be.
    ///
    /// # Errors
    /// Exit 6 if a live process owns what is there; 111 if it is no regular file, or the system refused. The name is the old one then.
    pub fn move_to(&mut self, to: &Path) -> Result<bool> {
        let what = || {
            format!(
                "cannot rename pid file {} to {}",
                self.path.display(),
                to.display()
            )
        };
        if self.path == to {
            return Ok(true);
        }
        for _ in 0..TRIES {
            if !names(&self.path, &self.file).map_err(|error| Error::system(what(), error))? {
                self.path = to.to_owned();
                return Ok(false);
            }
            match self
                .step(to)
                .map_err(|error| Error::system(what(), error))?
            {
                Step::Moved => {
                    self.path = to.to_owned();
                    return Ok(true);
                }
                Step::Taken(pid) => return Err(taken(to, pid)),
                Step::Raced => {}
            }
        }
        Err(Error::system(
            what(),
            "others take and leave it all the time",
        ))
    }

    fn step(&self, to: &Path) -> io::Result<Step> {
        // Never opened once more: its end would be the lock's.
        if names(to, &self.file)? {
            fs::remove_file(&self.path)?;
            return Ok(Step::Moved);
        }
        let Some(old) = existing(to)? else {
            return self.move_to_nothing(to);
        };
        if !lock(&old)? {
            return Ok(holder(&old)?.map_or(Step::Raced, Step::Taken));
        }
        if !names(to, &old)? {
            return Ok(Step::Raced);
        }
        fs::rename(&self.path, to)?;
        // Only now the old lock goes: whoever waits for it finds that the path names another file.
        drop(old);
        Ok(Step::Moved)
    }

    fn move_to_nothing(&self, to: &Path) -> io::Result<Step> {
        let moved = renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE);
        let moved = match moved {
            // A file system that does not know it: two names for a moment.
            Err(rustix::io::Errno::INVAL) => {
                fs::hard_link(&self.path, to).and_then(|()| fs::remove_file(&self.path))
            }
            moved => moved.map_err(io::Error::from),
        };
        match moved {
            Ok(()) => Ok(Step::Moved),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Step::Raced),
            Err(error) => Err(error),
        }
    }
}

/// Removes the pid file at `path` if nobody owns it. Must not be called for a file that this process owns.
///
/// # Errors
/// What open(2), fcntl(2) or unlink(2) said; no file, or one that is owned, is none.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let Some(old) = existing(path)? else {
        return Ok(());
    };
    if lock(&old)? && names(path, &old)? {
        fs::remove_file(path)?;
    }
    Ok(())
}
