//! Notification sockets with a path, for clients that know no abstract addresses.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use nix::sys::socket::{setsockopt, sockopt};

use super::NotifySocket;
use crate::sys::machine::random::hex128;

/// How the names of sockets in a directory begin; 32 hexadecimal digits follow.
const PREFIX: &str = "pf-notify-";

impl NotifySocket {
    /// Binds a new path in `directory`, for clients that know no abstract addresses. Only our own
    /// user and root may send to it. Nothing removes it but [`remove`](Self::remove).
    ///
    /// # Errors
    /// What bind(2) or chmod(2) said: ENOENT, EACCES, ENOSPC.
    pub fn bind_in(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("{PREFIX}{}", hex128()?));
        let address = path.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let socket = match UnixDatagram::bind(&path) {
            // A cleaner of temporary files has removed the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                prepare_directory(directory)?;
                UnixDatagram::bind(&path)?
            }
            bound => bound?,
        };
        let notify = NotifySocket { socket, address };
        let prepared = fs::set_permissions(&path, Permissions::from_mode(0o700)).and_then(|()| {
            // What is sent before this has no sender, and is not trusted.
            Ok(setsockopt(&notify.socket, sockopt::PassCred, &true)?)
        });
        if prepared.is_err() {
            NotifySocket::remove(&notify.address);
        }
        prepared.map(|()| notify)
    }

    /// Removes the path of this address, if it has one: the worker is gone. This is no part of
    /// dropping the socket, since another image of the master, or its check, may have it too.
    pub fn remove(address: &str) {
        if address.starts_with('/') {
            // It may have been removed already, with its directory.
            let _ = fs::remove_file(address);
        }
    }
}

/// Whether sockets can be in this directory, as far as that can be told without a change.
///
/// # Errors
/// EINVAL: the path is too long, or no UTF-8. ENOTDIR: it is something else.
pub fn check_directory(directory: &Path) -> io::Result<()> {
    let longest = directory.join(format!("{PREFIX}{}", "0".repeat(32)));
    if longest.to_str().is_none() {
        return Err(io::Error::other("the path is no UTF-8"));
    }
    SocketAddr::from_pathname(&longest)
        .map_err(|_| io::Error::other("the path is too long for a socket in it"))?;
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        // It is made when it is needed.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes sure that there is a directory for [`NotifySocket::bind_in`]: one that is made here is
/// ours alone. Sockets that a dead master left there are removed.
///
/// # Errors
/// As [`check_directory`], and what mkdir(2) or readdir(3) said.
pub fn prepare_directory(directory: &Path) -> io::Result<()> {
    check_directory(directory)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let is_ours = digits.is_some_and(|digits| digits.len() == 32)
            && entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_ours && is_dead(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether no process has the socket of this path open.
fn is_dead(path: &Path) -> bool {
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;
    use crate::sys::notify::send;

    #[test]
    fn a_socket_in_a_directory_is_ours_and_goes_when_it_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("notify");
        prepare_directory(&dir).expect("made");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        let mut socket = NotifySocket::bind_in(&dir).expect("bound");
        let path = socket.address().to_owned();
        assert_eq!(mode(Path::new(&path)), 0o700);
        send(OsStr::new(&path), "READY=1").expect("sent");
        let datagram = socket.receive().expect("read").expect("one");
        assert_eq!(datagram.uid, nix::unistd::getuid().as_raw());
        // Of a dead master's sockets none is left, of a live one's all, and of others' files too.
        let dead = NotifySocket::bind_in(&dir).expect("bound");
        let left = dead.address().to_owned();
        drop(dead);
        let other = dir.join(format!("{PREFIX}{}", "x".repeat(32)));
        fs::write(&other, "").expect("written");
        prepare_directory(&dir).expect("there");
        let there = [&left, &path].map(|path| Path::new(path).exists());
        assert_eq!((there, other.exists()), ([false, true], true));
        NotifySocket::remove(&path);
        assert!(!Path::new(&path).exists());
        let long = dir.join("x".repeat(80));
        let error = prepare_directory(&long).expect_err("too long");
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
