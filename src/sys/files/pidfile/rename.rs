//! Renames our pid file. The old master's file has another name while the new master beside it has
//! the usual one (U16, U19).
//!
//! The lock belongs to the file and not to its name, so we have it all the time. A file that is at
//! the new name is replaced only while we have its lock too, as at a start.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::acquire::PidFile;
use super::lock::{TRIES, holder, is_at, lock, open_existing, owned_error};
use crate::error::{Error, Result};

/// What one try to rename the file gave.
enum RenameAttempt {
    Moved,
    /// The process with this pid owns the file at the new name.
    Taken(i32),
    /// Another process was faster: try again.
    Raced,
}

impl PidFile {
    /// Renames our file to `to`. False if another process removed or replaced it at its present
    /// name: then nothing is renamed, and later calls will not touch files of others either.
    ///
    /// # Errors
    /// Exit 6: a live process owns the file at `to`. Exit 111: `to` is not a regular file, or the
    /// system refused. The name stays the old one then.
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
            if !is_at(&self.path, &self.file).map_err(|error| Error::system(what(), error))? {
                self.path = to.to_owned();
                return Ok(false);
            }
            match self
                .try_rename(to)
                .map_err(|error| Error::system(what(), error))?
            {
                RenameAttempt::Moved => {
                    self.path = to.to_owned();
                    return Ok(true);
                }
                RenameAttempt::Taken(pid) => return Err(owned_error(to, pid)),
                RenameAttempt::Raced => {}
            }
        }
        Err(Error::system(
            what(),
            "other processes take and leave it all the time",
        ))
    }

    fn try_rename(&self, to: &Path) -> io::Result<RenameAttempt> {
        // `to` is our own file already. Do not open it: closing that descriptor would release the
        // lock.
        if is_at(to, &self.file)? {
            fs::remove_file(&self.path)?;
            return Ok(RenameAttempt::Moved);
        }
        let Some(old) = open_existing(to)? else {
            return self.rename_to_free_path(to);
        };
        if !lock(&old)? {
            return Ok(holder(&old)?.map_or(RenameAttempt::Raced, RenameAttempt::Taken));
        }
        if !is_at(to, &old)? {
            return Ok(RenameAttempt::Raced);
        }
        fs::rename(&self.path, to)?;
        // Release the old lock only now: a process that gets it next finds that the path names
        // another file.
        drop(old);
        Ok(RenameAttempt::Moved)
    }

    fn rename_to_free_path(&self, to: &Path) -> io::Result<RenameAttempt> {
        let moved = renameat_with(CWD, &self.path, CWD, to, RenameFlags::NOREPLACE);
        let moved = match moved {
            // A file system without RENAME_NOREPLACE: the file has two names for a moment.
            Err(rustix::io::Errno::INVAL) => {
                fs::hard_link(&self.path, to).and_then(|()| fs::remove_file(&self.path))
            }
            moved => moved.map_err(io::Error::from),
        };
        match moved {
            Ok(()) => Ok(RenameAttempt::Moved),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(RenameAttempt::Raced),
            Err(error) => Err(error),
        }
    }
}

/// Removes the pid file at `path` if no process owns it. A missing file, or one that is owned, is
/// no error. Never call it for a file that this process owns: that would release the lock.
///
/// # Errors
/// What open(2), fcntl(2) or unlink(2) said.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let Some(old) = open_existing(path)? else {
        return Ok(());
    };
    if lock(&old)? && is_at(path, &old)? {
        fs::remove_file(path)?;
    }
    Ok(())
}
