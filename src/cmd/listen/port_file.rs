//! `--port-file`: writes the bound addresses.
//!
//! A file is replaced as a whole. A path that names an open descriptor (`/dev/stdout`, `/dev/fd/N`)
//! is not opened: the kernel would open the file behind it anew, and that has an offset of its own
//! and not the append flag of the descriptor, so that one of two writers overwrites the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, reason};
use crate::sys::io::fd;
use crate::sys::listener::Listener;
use crate::wire::address::Name;

/// How many links lead to a descriptor at most; the kernel has the same limit: path_resolution(7).
const MAX_LINKS: usize = 40;

/// Writes a line `NAME ADDRESS` for each listener. A reader of a file sees the whole file or none:
/// it is written under another name and renamed.
pub(super) fn write(file: &Path, listeners: &[Listener]) -> Result<()> {
    let line = |listener: &Listener| {
        format!(
            "{} {}\n",
            listener.name.as_ref().map_or("-", Name::as_str),
            listener.address
        )
    };
    let text: String = listeners.iter().map(line).collect();
    let written = match (named_descriptor(file), replaceable(file)) {
        (Some(number), _) => write_to_descriptor(number, &text),
        (None, Some(target)) => replace(&target, &text),
        (None, None) => fs::OpenOptions::new()
            .append(true)
            .open(file)
            .and_then(|mut file| file.write_all(text.as_bytes())),
    };
    written.map_err(|error| {
        Error::system(
            format!("cannot write port file {}", file.display()),
            reason(&error),
        )
    })
}

/// The descriptor that a path names, also through links.
fn named_descriptor(path: &Path) -> Option<RawFd> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let name = path.to_str().unwrap_or_default();
        let own = format!("/proc/{}/fd/", std::process::id());
        let number = ["/dev/fd/", "/proc/self/fd/", &own]
            .iter()
            .find_map(|directory| name.strip_prefix(directory)?.parse().ok());
        match name {
            "/dev/stdin" => return Some(0),
            "/dev/stdout" => return Some(1),
            "/dev/stderr" => return Some(2),
            _ if number.is_some() => return number,
            _ => {}
        }
        let target = fs::read_link(&path).ok()?;
        path = path.parent()?.join(target);
    }
    None
}

fn write_to_descriptor(number: RawFd, text: &str) -> io::Result<()> {
    // Close-on-exec: a descriptor of our own, which merely has that number.
    if !fd::survives_exec(number) {
        return Err(io::Error::other(format!("fd {number} is not open")));
    }
    File::from(fd::duplicate_above(number, 3)?).write_all(text.as_bytes())
}

/// The regular file that `file` is or will be, with links resolved. `None`: `file` can only be
/// written to: a FIFO, a terminal, and everything in /dev and /proc (never rename over
/// `/dev/stdout`).
fn replaceable(file: &Path) -> Option<PathBuf> {
    let is_link = fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink());
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(_) if is_link => return None,
        Err(_) => file.to_owned(),
    };
    let special = [file, &target]
        .iter()
        .any(|path| path.starts_with("/dev") || path.starts_with("/proc"));
    let regular = fs::metadata(&target).map_or(true, |found| found.is_file());
    (regular && (!special || target.starts_with("/dev/shm"))).then_some(target)
}

fn replace(target: &Path, text: &str) -> io::Result<()> {
    let mut beside = target.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    // A file with this process's pid in its name was left by a process that is gone.
    let _ = fs::remove_file(&beside);
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&beside);
    let done = created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, target));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}
