//! `--port-file`: writes the bound addresses.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, reason};
use crate::sys::listener::Listener;
use crate::wire::address::Name;

/// Writes a line `NAME ADDRESS` for each listener. A reader sees the whole file or none: it is
/// written under another name and renamed.
pub(super) fn write(file: &Path, listeners: &[Listener]) -> Result<()> {
    let line = |listener: &Listener| {
        format!(
            "{} {}\n",
            listener.name.as_ref().map_or("-", Name::as_str),
            listener.address
        )
    };
    let text: String = listeners.iter().map(line).collect();
    let written = match replaceable(file) {
        Some(target) => replace(&target, &text),
        None => fs::OpenOptions::new()
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

fn replace(target: &Path, text: &str) -> std::io::Result<()> {
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
