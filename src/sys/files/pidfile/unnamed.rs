//! A locked file with our pid that has no name yet: it appears at its path whole or not at all, and
//! a process that is killed before that leaves nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};

use super::lock::{is_at, lock, open_existing};
use crate::sys::machine::random::hex128;

/// How many hexadecimal digits end the name of a temporary file.
const DIGITS: usize = 32;

/// The file: locked, with our pid in it.
pub(super) struct NewFile {
    file: File,
    name: TemporaryName,
}

/// The name that the file has where a file cannot be without one; removed with this value.
struct TemporaryName(Option<PathBuf>);

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            // After a rename there is nothing to remove.
            let _ = fs::remove_file(name);
        }
    }
}

impl NewFile {
    /// A file in the directory of `path`.
    ///
    /// # Errors
    /// What open(2), fcntl(2) or write(2) said: no space, no permission.
    pub(super) fn beside(path: &Path) -> io::Result<NewFile> {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let unnamed = options().custom_flags(libc::O_TMPFILE).open(dir);
        let new = match unnamed {
            Ok(file) => NewFile {
                file,
                name: TemporaryName(None),
            },
            // A file system, or a kernel, that has no files without a name.
            Err(error) if is_unsupported(&error) => NewFile::named_beside(path)?,
            Err(error) => return Err(error),
        };
        new.fill()
    }

    fn named_beside(path: &Path) -> io::Result<NewFile> {
        let name = path.with_file_name({
            let mut name = prefix(path)?;
            name.push(hex128()?);
            name
        });
        let file = options().create_new(true).open(&name)?;
        let name = TemporaryName(Some(name));
        Ok(NewFile { file, name })
    }

    fn fill(mut self) -> io::Result<NewFile> {
        lock(&self.file)?;
        writeln!(self.file, "{}", std::process::id())?;
        self.file.sync_all()?;
        Ok(self)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// `AlreadyExists`: there is a file at `path`. What linkat(2) said.
    pub(super) fn link_to(self, path: &Path) -> io::Result<File> {
        let Some(name) = &self.name.0 else {
            // A link of the descriptor itself needs a privilege; this way of naming it does not.
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            return match linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => Ok(self.file),
                Err(rustix::io::Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
                // No /proc here, or a file system without links.
                Err(_) => NewFile::named_beside(path)?.fill()?.link_to(path),
            };
        };
        let linked = match fs::hard_link(name, path) {
            Err(error) if is_unsupported(&error) => {
                renameat_with(CWD, name, CWD, path, RenameFlags::NOREPLACE).map_err(Into::into)
            }
            linked => linked,
        };
        match linked {
            Ok(()) => Ok(self.file),
            // A starter that was faster has taken the temporary file for one that was left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Err(error) => Err(error),
        }
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o644);
    options
}

fn is_unsupported(error: &io::Error) -> bool {
    let known = [
        libc::EOPNOTSUPP,
        libc::EISDIR,
        libc::EINVAL,
        libc::ENOENT,
        libc::EPERM,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| known.contains(&number))
}

/// How the names of temporary files for this path begin.
fn prefix(path: &Path) -> io::Result<OsString> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Ok(prefix)
}

/// Removes the temporary files for this path that processes have left which were killed. A file
/// that a process has locked stays.
pub(super) fn remove_left_over(path: &Path) {
    let (Ok(prefix), Some(dir)) = (prefix(path), path.parent()) else {
        return;
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes());
        let is_ours = |rest: &[u8]| rest.len() == DIGITS && rest.iter().all(u8::is_ascii_hexdigit);
        if !rest.is_some_and(is_ours) {
            continue;
        }
        if let Ok(Some(file)) = open_existing(&entry.path())
            && lock(&file).is_ok_and(|free| free)
            && is_at(&entry.path(), &file).is_ok_and(|same| same)
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}
