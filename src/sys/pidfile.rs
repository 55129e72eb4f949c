//! The pid file (U22): the lock is the truth, the number in it is for people.
//!
//! The lock is fcntl's: it survives exec as long as the descriptor stays open, a fork does not inherit it, and the kernel tells
//! who holds it. But it is per process: closing any descriptor of the file drops it, so a master must never open its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::poll::{Interest, Poller};
use super::random::hex128;
use super::signals;
use crate::error::{Error, Exit, Result};
use crate::model::sig::Sig;
use crate::model::time::Time;

/// Each lost race means that another has just won one.
const TRIES: usize = 100;

/// Our pid file, locked.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// Who owns a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// There is no such file.
    Absent,
    /// Nobody holds the lock: whatever number stands in it means nothing.
    Stale,
    /// This process holds it.
    Alive(i32),
    /// A process of another pid namespace holds it: it has no number here.
    Unreachable,
}

enum Attempt {
    Won(PidFile),
    Taken(i32),
    /// Another was faster at one step: look again.
    Raced,
}

impl PidFile {
    /// Takes the pid file at `path`, whether it is absent or stale, and writes our pid into it. Must not be called for a file
    /// that this process owns.
    ///
    /// # Errors
    /// Exit 6 if a live process owns it, which is named; 111 if something else than a regular file is there, or the system
    /// refused (no space, no permission).
    pub fn acquire(path: &Path) -> Result<PidFile> {
        let what = || format!("cannot take pid file {}", path.display());
        // A later change of directory must not change what is removed.
        let full = std::path::absolute(path).map_err(|error| Error::system(what(), error))?;
        for _ in 0..TRIES {
            let attempt = match existing(&full) {
                Ok(Some(old)) => replace(&full, old),
                Ok(None) => create(&full),
                Err(error) => Err(error),
            };
            match attempt.map_err(|error| Error::system(what(), error))? {
                Attempt::Won(file) => return Ok(file),
                Attempt::Taken(pid) => return Err(taken(path, pid)),
                Attempt::Raced => {}
            }
        }
        Err(Error::system(
            what(),
            "others take and leave it all the time",
        ))
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor that holds the lock; close-on-exec.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes the file, if the path still names ours.
    ///
    /// # Errors
    /// What lstat(2) or unlink(2) said; a file that is not there, or another's, is none.
    pub fn remove(self) -> io::Result<()> {
        // Nobody replaces it between the look and the unlink: that takes the lock that we hold.
        if names(&self.path, &self.file)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

fn taken(path: &Path, pid: i32) -> Error {
    let owner = match pid {
        1.. => format!("process {pid} owns it"),
        _ => "a process of another pid namespace owns it".to_owned(),
    };
    let what = format!("cannot take pid file {}", path.display());
    Error::new(Exit::Refused, what, owner).hint("stop it first, or name another file")
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Opens what is at the path, never following a link, nor waiting for the other end of a fifo.
fn existing(path: &Path) -> io::Result<Option<File>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() {
        return Err(not_regular());
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(file) if !file.metadata()?.is_file() => Err(not_regular()),
        opened => opened.map(Some),
    }
}

/// Nothing is there: a locked file appears, or, where another's has, nothing happens.
fn create(path: &Path) -> io::Result<Attempt> {
    let (temporary, file) = prepare(path)?;
    let linked = match fs::hard_link(&temporary, path) {
        // A file system without links.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
            renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE).map_err(Into::into)
        }
        linked => linked,
    };
    // Already gone if it was renamed.
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => Ok(won(path, file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

/// A file is there: if nobody holds it, ours replaces it while we hold it.
fn replace(path: &Path, old: File) -> io::Result<Attempt> {
    if !lock(&old)? {
        // Between the two calls the holder may have gone.
        return Ok(holder(&old)?.map_or(Attempt::Raced, Attempt::Taken));
    }
    // Whoever held it before may have replaced or removed the file between our open and our lock.
    if !names(path, &old)? {
        return Ok(Attempt::Raced);
    }
    let (temporary, file) = prepare(path)?;
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Only now the old lock goes: whoever waits for it finds that the path names another file.
    drop(old);
    Ok(won(path, file))
}

fn won(path: &Path, file: File) -> Attempt {
    Attempt::Won(PidFile {
        path: path.to_owned(),
        file,
    })
}

/// A locked, complete file under a name that nobody knows, beside `path`.
fn prepare(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), hex128()?));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)?;
    let filled = lock(&file)
        .and_then(|_| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.sync_all());
    if let Err(error) = filled {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok((temporary, file))
}

/// Whether the path names this very file.
fn names(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())),
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the lock; false if another process has it.
fn lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The other process that has the lock.
fn holder(file: &File) -> io::Result<Option<i32>> {
    let mut found = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut found))?;
    let unlocked = i32::from(found.l_type) == libc::F_UNLCK;
    Ok((!unlocked).then_some(found.l_pid))
}

/// Who owns the pid file at `path`: what its lock says, whatever stands in it. Must not be asked about one's own, which would
/// drop the lock.
///
/// # Errors
/// Exit 4 if the file may not be opened; 111 if it is no regular file, or the system refused.
pub fn owner(path: &Path) -> Result<Owner> {
    let what = || format!("cannot read pid file {}", path.display());
    let open = |read: bool| {
        OpenOptions::new()
            .read(read)
            .write(!read)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    // Asking needs no particular mode.
    let opened = open(true).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => open(false),
        _ => Err(error),
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(Owner::Absent),
                io::ErrorKind::PermissionDenied => Err(Error::new(Exit::Permission, what(), error)),
                _ => Err(Error::system(what(), error)),
            };
        }
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(Error::system(what(), not_regular()));
    }
    Ok(
        match holder(&file).map_err(|error| Error::system(what(), error))? {
            None => Owner::Stale,
            Some(pid) if pid > 0 => Owner::Alive(pid),
            Some(_) => Owner::Unreachable,
        },
    )
}

/// The live owner of the pid file, with a handle that can only ever mean that process; `None` if it is absent or stale.
///
/// # Errors
/// As [`owner`]; exit 6 if the owner is of another pid namespace.
pub fn open_owner(path: &Path) -> Result<Option<(i32, OwnedFd)>> {
    let what = || format!("cannot reach the owner of pid file {}", path.display());
    for _ in 0..TRIES {
        let pid = match owner(path)? {
            Owner::Absent | Owner::Stale => return Ok(None),
            Owner::Alive(pid) => pid,
            Owner::Unreachable => {
                let why = "it is in another pid namespace";
                return Err(Error::new(Exit::Refused, what(), why).hint("use its control socket"));
            }
        };
        let Some(raw) = Pid::from_raw(pid) else {
            continue;
        };
        match pidfd_open(raw, PidfdFlags::empty()) {
            // It still owns the file, so the number meant it when the handle was made.
            Ok(handle) if owner(path)? == Owner::Alive(pid) => return Ok(Some((pid, handle))),
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(Error::system(what(), errno)),
        }
    }
    Err(Error::system(what(), "it changes all the time"))
}

/// Signals the process that the handle means.
///
/// # Errors
/// ESRCH: it has ended; EPERM: it is not ours.
pub fn pidfd_signal(handle: &OwnedFd, sig: Sig) -> io::Result<()> {
    let signal = Signal::from_named_raw(signals::number(sig)).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_send_signal(handle, signal)?)
}

/// Waits until the process that the handle means has ended; false if `deadline` (`None`: never) came first.
///
/// # Errors
/// What poll(2) said.
pub fn pidfd_wait(handle: &OwnedFd, deadline: Option<Time>) -> io::Result<bool> {
    let mut poller = Poller::new();
    let ready = poller.wait(&[(handle.as_fd(), Interest::READ)], deadline)?;
    Ok(ready.iter().any(|ready| ready.any()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::clock::now;
    use crate::sys::testing::{Peer, Talk};

    /// Does what it is told with one pid file.
    pub fn play(talk: &mut Talk) {
        let path = PathBuf::from(talk.hear().expect("a path"));
        let mut held = None;
        while let Some(order) = talk.hear() {
            match order.as_str() {
                "acquire" => match PidFile::acquire(&path) {
                    Ok(file) => {
                        held = Some(file);
                        talk.say("won");
                    }
                    Err(error) => talk.say(&format!("{:?} {error}", error.exit)),
                },
                "leave" => {
                    held = None;
                    talk.say("left");
                }
                "remove" => {
                    if let Some(file) = held.take() {
                        file.remove().expect("removed");
                    }
                    talk.say("removed");
                }
                other => panic!("{other}"),
            }
        }
    }

    fn contestant(path: &Path) -> Peer {
        Peer::start("pidfile", &[path.to_str().expect("UTF-8")])
    }

    fn ask(peer: &mut Peer, order: &str) -> String {
        peer.talk.say(order);
        peer.talk.hear().expect("an answer")
    }

    fn litter(dir: &Path) -> usize {
        fs::read_dir(dir).expect("listed").count()
    }

    #[test]
    fn u22_of_two_starters_exactly_one_wins_two_hundred_times() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.pid");
        let (mut one, mut two) = (contestant(&path), contestant(&path));
        for round in 0..200 {
            one.talk.say("acquire");
            two.talk.say("acquire");
            let answers = (
                one.talk.hear().expect("an answer"),
                two.talk.hear().expect("an answer"),
            );
            let (winner, loser, told) = match (answers.0.as_str(), answers.1.as_str()) {
                ("won", told) => (&mut one, &mut two, told),
                (told, "won") => (&mut two, &mut one, told),
                _ => panic!("round {round}: nobody won: {answers:?}"),
            };
            let told_so = format!("process {} owns it", winner.pid());
            assert!(
                told.starts_with("Refused ") && told.contains(&told_so),
                "round {round}: {told}"
            );
            let content = fs::read_to_string(&path).expect("written");
            assert_eq!(content, format!("{}\n", winner.pid()));
            assert_eq!(owner(&path).expect("asked"), Owner::Alive(winner.pid()));
            // What the next round finds: nothing, a stale file, or one that names a live stranger.
            let (end, left) = match round % 3 {
                0 => ("remove", Owner::Absent),
                _ => ("leave", Owner::Stale),
            };
            ask(winner, end);
            assert_eq!(owner(&path).expect("asked"), left);
            if round % 3 == 2 {
                fs::write(&path, format!("{}\n", loser.pid())).expect("written");
            }
        }
        ask(&mut one, "acquire");
        assert_eq!(litter(dir.path()), 1, "no temporary file stays");
    }

    #[test]
    fn u22_whoever_comes_late_to_a_step_looks_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.pid");
        fs::write(&path, "stale").expect("written");
        let late = existing(&path).expect("opened").expect("there");
        let mut peer = contestant(&path);
        assert_eq!(ask(&mut peer, "acquire"), "won");
        // The old file's lock is free again, but the path names the winner's.
        assert!(matches!(replace(&path, late), Ok(Attempt::Raced)));
        assert!(matches!(create(&path), Ok(Attempt::Raced)));
        assert_eq!(owner(&path).expect("asked"), Owner::Alive(peer.pid()));
        let now = existing(&path).expect("opened").expect("there");
        assert!(matches!(replace(&path, now), Ok(Attempt::Taken(pid)) if pid == peer.pid()));
        assert_eq!(litter(dir.path()), 1);
    }

    #[test]
    fn u22_a_live_strangers_number_is_stale_and_an_owner_is_opened_and_awaited() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.pid");
        assert_eq!(owner(&path).expect("asked"), Owner::Absent);
        assert!(open_owner(&path).expect("asked").is_none());
        fs::write(&path, "1\n").expect("written");
        assert_eq!(owner(&path).expect("asked"), Owner::Stale);
        assert!(open_owner(&path).expect("asked").is_none());

        let mut peer = contestant(&path);
        assert_eq!(ask(&mut peer, "acquire"), "won");
        let (pid, handle) = open_owner(&path).expect("asked").expect("alive");
        assert_eq!(pid, peer.pid());
        let soon = Some(now() + Duration::from_millis(10));
        assert!(!pidfd_wait(&handle, soon).expect("waited"));
        pidfd_signal(&handle, Sig::Kill).expect("sent");
        let late = Some(now() + Duration::from_secs(10));
        assert!(pidfd_wait(&handle, late).expect("waited"));
        assert_eq!(owner(&path).expect("asked"), Owner::Stale);
        peer.child.wait().expect("ours");
        let gone = pidfd_signal(&handle, Sig::Term).expect_err("gone");
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn u22_at_exit_a_foreign_file_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.pid");
        let mut peer = contestant(&path);
        assert_eq!(ask(&mut peer, "acquire"), "won");
        fs::rename(&path, dir.path().join("app.pid.oldbin")).expect("renamed");
        fs::write(&path, "foreign").expect("written");
        assert_eq!(ask(&mut peer, "remove"), "removed");
        assert_eq!(fs::read_to_string(&path).expect("there"), "foreign");
        assert_eq!(litter(dir.path()), 2);
    }

    #[test]
    fn what_is_no_regular_file_is_never_touched() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("dir")).expect("made");
        fs::write(path("target"), "precious").expect("made");
        std::os::unix::fs::symlink(path("target"), path("link")).expect("made");
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        for name in ["dir", "link", "fifo"] {
            let error = PidFile::acquire(&path(name)).expect_err("refused");
            assert_eq!(error.exit, Exit::System);
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
        assert_eq!(
            fs::read_to_string(path("target")).expect("there"),
            "precious"
        );
        assert!(owner(&path("dir")).is_err());
        assert!(owner(&path("fifo")).is_err());
        let error = PidFile::acquire(&path("no/such/dir.pid")).expect_err("refused");
        assert!(error.to_string().contains("No such file"), "{error}");
        assert_eq!(litter(dir.path()), 4);
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_nothing_new() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.pid");
        // A limit of 0 bytes a file stands for the full disk; it is per process, so another is made to hit it.
        let full = "ulimit -f 0; trap '' XFSZ; exec \"$0\" \"$@\"";
        let mut peer = Peer::start_under(
            &["sh", "-c", full],
            "pidfile",
            &[path.to_str().expect("UTF-8")],
        );
        let told = ask(&mut peer, "acquire");
        assert!(
            told.starts_with("System ") && told.contains("File too large"),
            "{told}"
        );
        assert_eq!(litter(dir.path()), 0);
    }

    #[test]
    fn the_descriptor_is_close_on_exec() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = PidFile::acquire(&dir.path().join("app.pid")).expect("taken");
        let flags = rustix::io::fcntl_getfd(file.fd()).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert!(file.path().is_absolute());
        file.remove().expect("removed");
        assert_eq!(litter(dir.path()), 0);
    }
}
