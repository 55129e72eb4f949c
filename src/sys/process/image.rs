//! This process's own program image, and executing another image in its place: the pid, the
//! children and the open descriptors stay.

use std::ffi::{CString, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use nix::sys::prctl;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread};

use crate::sys::io::fd;
use crate::sys::machine::{environment, limits};
use crate::wire::environment::Environment;
use crate::wire::handover::{CHECK_FD, FAILED, STATE_FD};

/// What is executed in place of this image.
#[derive(Debug)]
pub struct Next<'a> {
    /// The program's path.
    pub program: &'a Path,
    /// The arguments; the first is the name that the program is called by.
    pub argv: &'a [OsString],
    /// Its environment.
    pub environment: &'a Environment,
    /// Its working directory.
    pub dir: Option<&'a Path>,
    /// RLIMIT_NOFILE, soft and hard.
    pub nofile: Option<(u64, u64)>,
    /// The descriptors that the next image gets, all at their present numbers.
    pub fds: &'a [RawFd],
}

/// The file of the running image, also if its path has been replaced or deleted since.
///
/// # Errors
/// What open(2) returned; ENOENT without /proc.
pub fn own() -> io::Result<OwnedFd> {
    // O_PATH: a program may be executable and not readable.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/proc/self/exe")?;
    Ok(opened.into())
}

/// The path by which an open file can be executed.
pub fn path_of(fd: RawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// A file in memory with this content.
///
/// # Errors
/// What memfd_create(2) or write(2) returned: EMFILE, ENOMEM.
pub fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create("pf-state", MemfdFlags::CLOEXEC)?);
    file.write_all_at(content, 0)?;
    Ok(file.into())
}

/// The whole content of such a file, wherever its offset is. `number`: a descriptor, which stays
/// open.
///
/// # Errors
/// The descriptor is not open; what fstat(2) or pread(2) returned.
pub fn content(number: RawFd) -> io::Result<Vec<u8>> {
    // Without a copy of the descriptor: there may be room for none.
    let file = fd::borrow(number).ok_or(Errno::BADF)?;
    let length = usize::try_from(fstat(file)?.st_size).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).map_err(io::Error::other)?;
        match pread(file, rest, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(content)
}

/// The descriptor that a variable of the hand-over names; None if it is not set, or is no number.
pub fn descriptor_in(name: &str) -> Option<RawFd> {
    std::env::var(name).ok()?.parse().ok()
}

/// Why the successor of this image executed this image again, if it did.
pub fn successor_failure() -> Option<String> {
    std::env::var_os(FAILED).map(|why| why.to_string_lossy().into_owned())
}

/// Whether a previous image started this one, to check it or to hand over to it.
pub fn is_between_images() -> bool {
    [CHECK_FD, STATE_FD]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// The environment that this image was given, without the hand-over's variables, which are for this
/// image alone.
pub fn environment() -> Environment {
    let mut given = environment::own();
    given.retain(|name| {
        [CHECK_FD, STATE_FD, FAILED]
            .iter()
            .all(|ours| name != *ours)
    });
    given
}

/// Gives this process the name of its program again, as `ps` shows it: the kernel calls an image
/// that was executed by a link in /proc after that link, `exe` or a number.
pub fn keep_name() {
    let is_link = |name: &str| name == "exe" || name.bytes().all(|byte| byte.is_ascii_digit());
    let own = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let argv0 = std::env::args_os().next().map(PathBuf::from);
    if is_link(own.trim_end())
        && let Some(name) = argv0.as_deref().and_then(Path::file_name)
        && let Ok(name) = CString::new(name.as_bytes())
    {
        // A name of another kind does no harm.
        let _ = prctl::set_name(&name);
    }
}

/// Executes `next`. The caller has blocked all signals, and they stay blocked until the next image
/// has installed its handlers: so none is lost and none ends the process. Returns only if that is
/// not possible; then everything is as before.
pub fn become_next(next: &Next<'_>) -> io::Error {
    for fd in next.fds {
        // An exec without one of them could not be undone.
        if let Err(errno) = fd::set_cloexec(*fd, false) {
            close_on_exec(next.fds);
            return io::Error::other(format!("cannot hand fd {fd} over: {}", errno.desc()));
        }
    }
    let dir = std::env::current_dir();
    limits::restore_nofile(next.nofile);
    let mut command = Command::new(next.program);
    if let Some((name, rest)) = next.argv.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .env_clear()
        .envs(next.environment.iter().map(|it| (it.name(), it.value())));
    if let Some(dir) = next.dir {
        command.current_dir(dir);
    }
    let error = command.exec();
    let _ = limits::raise_nofile();
    if let Ok(dir) = dir {
        let _ = std::env::set_current_dir(dir);
    }
    close_on_exec(next.fds);
    error
}

fn close_on_exec(fds: &[RawFd]) {
    for fd in fds {
        // One that cannot be marked again goes to no worker: those get what they are given.
        let _ = fd::set_cloexec(*fd, true);
    }
}

/// The number of a descriptor that goes to the next image.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}
