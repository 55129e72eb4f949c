//! This process's own program, and another in its place: the pid, the children and whatever is open go on.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::sys::io::fd;
use crate::sys::machine::limits;
use crate::sys::signal;
use crate::wire::handover::{CHECK_FD, FAILED, STATE_FD};

/// What is executed in place of this image.
#[derive(Debug)]
pub struct Next<'a> {
    /// The program's path.
    pub program: &'a Path,
    /// Its arguments, the name that it is called by first.
    pub argv: &'a [OsString],
    /// Its environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its working directory.
    pub dir: Option<&'a Path>,
    /// RLIMIT_NOFILE, soft and hard.
    pub nofile: Option<(u64, u64)>,
    /// The descriptors that it gets, all at the numbers that they have.
    pub fds: &'a [RawFd],
}

/// The file of the image that runs, also if it has been replaced or deleted meanwhile.
///
/// # Errors
/// What open(2) said; ENOENT without /proc.
pub fn own() -> io::Result<OwnedFd> {
    // A program may be executable and not readable.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/proc/self/exe")?;
    Ok(opened.into())
}

/// Where an open file can be executed.
pub fn path_of(fd: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// A file of memory with this content.
///
/// # Errors
/// What memfd_create(2) or write(2) said: EMFILE, ENOMEM.
pub fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create("pf-state", MemfdFlags::CLOEXEC)?);
    file.write_all_at(content, 0)?;
    Ok(file.into())
}

/// All that is in such a file, wherever its offset stands. `number`: a descriptor that stays as it is.
///
/// # Errors
/// The descriptor is not open; what fstat(2) or pread(2) said.
pub fn content(number: RawFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd::duplicate_raw(number)?);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// The descriptor that a variable of the hand-over names; None if it is not set, or is no number.
pub fn descriptor_in(name: &str) -> Option<RawFd> {
    std::env::var(name).ok()?.parse().ok()
}

/// Why the image after this one went back to it, if it did.
pub fn went_back() -> Option<String> {
    std::env::var_os(FAILED).map(|why| why.to_string_lossy().into_owned())
}

/// Whether this image is only checked, or takes over.
pub fn is_between_images() -> bool {
    [CHECK_FD, STATE_FD]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Whether this process leads its session.
pub fn leads_its_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|leader| leader == rustix::process::getpid())
}

/// The environment that this image was given, without what is meant for it alone.
pub fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| [CHECK_FD, STATE_FD, FAILED].iter().all(|ours| name != ours))
        .collect()
}

/// Executes it. All signals are blocked from here until the handlers of the next image stand, so that none is lost and none ends it. Returns only
/// if that failed; then everything is as it was, but for the working directory.
pub fn become_next(next: &Next<'_>) -> io::Error {
    let mask = signal::block_all();
    for fd in next.fds {
        // One that is not open is missed by whoever looks for it.
        let _ = fd::set_cloexec(*fd, false);
    }
    limits::restore_nofile(next.nofile);
    let mut command = Command::new(next.program);
    if let Some((name, rest)) = next.argv.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .env_clear()
        .envs(next.environment.iter().map(|(name, value)| (name, value)));
    if let Some(dir) = next.dir {
        command.current_dir(dir);
    }
    let error = command.exec();
    let _ = limits::raise_nofile();
    for fd in next.fds {
        let _ = fd::set_cloexec(*fd, true);
    }
    signal::restore(mask);
    error
}

/// The number of a descriptor that goes to the next image.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}
