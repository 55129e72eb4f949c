//! The paths that the master publishes: its pid file and its control socket.
//!
//! During an upgrade by fork the old master's are moved aside, to `.oldbin`, and the new master has
//! the plain ones.
//!
//! A path that another process removes (a cleaner of `/tmp`, say) is made anew.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::model::time::Time;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::files::watch::{AtPath, PathWatch};
use crate::wire::names::{old_control, old_pid_file};

/// The control socket, listening, and the pid file, locked.
#[derive(Default)]
pub(in crate::driver) struct PublishedPaths {
    control: Option<ControlSocket>,
    pid_file: Option<PidFile>,
    /// The plain paths, while both are moved aside.
    plain: Option<Paths>,
    /// Tells that a path may be ours no more. None: the system has no watch left for us.
    watch: Option<PathWatch>,
    /// When to look at the paths though the watch tells nothing.
    look_at: Option<Time>,
    /// Why a path could not be made anew, as it was logged last; until all are in place.
    logged: Option<String>,
    /// When that is tried again: after twice the time, each time.
    retry_after: Duration,
}

/// A path that could not be made anew is tried again after this, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// How often the paths are looked at where they cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Paths {
    control: Option<PathBuf>,
    pid_file: Option<PathBuf>,
}

impl PublishedPaths {
    pub(in crate::driver) fn new(
        control: Option<ControlSocket>,
        pid_file: Option<PidFile>,
    ) -> PublishedPaths {
        PublishedPaths {
            control,
            pid_file,
            plain: None,
            watch: PathWatch::new().ok(),
            // A path may have gone before it is watched.
            look_at: Some(Time::default()),
            logged: None,
            retry_after: FIRST_RETRY,
        }
    }

    pub(in crate::driver) fn control(&self) -> Option<&ControlSocket> {
        self.control.as_ref()
    }

    pub(in crate::driver) fn pid_file(&self) -> Option<&PidFile> {
        self.pid_file.as_ref()
    }

    /// Readable when the paths are to be looked at.
    pub(in crate::driver) fn watch_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(PathWatch::fd)
    }

    /// When to look at the paths in any case.
    pub(in crate::driver) fn look_at(&self) -> Option<Time> {
        self.look_at
    }

    /// Makes the paths anew that other processes have removed; `acks`: einhorn's socket is watched
    /// too. What another process has put at a path is left alone until it goes. The former control
    /// socket, at which clients may wait.
    pub(in crate::driver) fn mend(
        &mut self,
        acks: Option<&ControlSocket>,
        now: Time,
        log: &Log,
    ) -> Option<ControlSocket> {
        if let Some(watch) = &self.watch {
            watch.drain();
        }
        // The control socket first, as at the start: the pid file says that it is there.
        let control = self.control.as_mut().map_or(Ok(None), |control| {
            let (what, path) = ("control socket", control.path().to_owned());
            is_free(what, &path, control.at_path())?
                .then(|| {
                    control
                        .bind_anew()
                        .inspect(|_| log_made_anew(what, &path, log))
                })
                .transpose()
        });
        let pid_file = self.pid_file.as_mut().map_or(Ok(()), |file| {
            let (what, path) = ("pid file", file.path().to_owned());
            if is_free(what, &path, file.at_path())? {
                file.acquire_anew()?;
                log_made_anew(what, &path, log);
            }
            Ok(())
        });
        let trouble = control.as_ref().err().or(pid_file.as_ref().err());
        let trouble = trouble.map(ToString::to_string);
        if let Some(trouble) = &trouble
            && self.logged.as_ref() != Some(trouble)
        {
            log.error(format_args!("{trouble}; it is tried again"));
        }
        let is_watched = self.watch_paths(acks).is_ok();
        self.retry_after = match (&trouble, &self.logged) {
            (Some(_), Some(_)) => (2 * self.retry_after).min(LAST_RETRY),
            (Some(_), None) | (None, _) => FIRST_RETRY,
        };
        self.look_at = match (&trouble, is_watched) {
            (Some(_), _) => Some(now + self.retry_after),
            (None, false) => Some(now + LOOK_EVERY),
            (None, true) => None,
        };
        self.logged = trouble;
        control.ok().flatten()
    }

    /// Watches the files that the paths name now.
    fn watch_paths(&self, acks: Option<&ControlSocket>) -> io::Result<()> {
        let watch = self.watch.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let control = self.control.as_ref().map(ControlSocket::path);
        let pid_file = self.pid_file.as_ref().map(PidFile::path);
        let paths = [control, pid_file, acks.map(ControlSocket::path)];
        paths
            .into_iter()
            .flatten()
            .try_for_each(|path| watch.add(path))
    }

    /// Moves both aside, so that a new master can have the plain paths. On an error both are where
    /// they were.
    ///
    /// # Errors
    /// As [`ControlSocket::move_to`] and [`PidFile::move_to`].
    pub(in crate::driver) fn move_aside(&mut self, log: &Log) -> Result<()> {
        let plain = Paths {
            control: self.control.as_ref().map(|it| it.path().to_owned()),
            pid_file: self.pid_file.as_ref().map(|it| it.path().to_owned()),
        };
        let control = plain.control.as_ref();
        let aside = Paths {
            control: control.map(|control| old_control(control, plain.pid_file.as_deref())),
            pid_file: plain.pid_file.as_deref().map(old_pid_file),
        };
        self.plain = Some(plain);
        let moved = self.move_to(&aside, log);
        if moved.is_err() {
            self.move_back(log);
        }
        moved
    }

    /// Moves both back to the plain paths, if they were moved aside.
    pub(in crate::driver) fn move_back(&mut self, log: &Log) {
        let Some(plain) = self.plain.take() else {
            return;
        };
        if let Err(error) = self.move_to(&plain, log) {
            log.error(format_args!("{error}"));
        }
    }

    /// Moves both, even if one fails: the first error.
    fn move_to(&mut self, to: &Paths, log: &Log) -> Result<()> {
        let mut result = Ok(());
        // A path that was lost is made anew at its new place.
        self.look_at = Some(Time::default());
        if let (Some(control), Some(to)) = (&mut self.control, &to.control) {
            let from = control.path().to_owned();
            match control.move_to(to) {
                Ok(is_ours) => warn_if_lost(&from, is_ours, log),
                Err(error) => result = Err(error),
            }
        }
        if let (Some(file), Some(to)) = (&mut self.pid_file, &to.pid_file) {
            let from = file.path().to_owned();
            match file.move_to(to) {
                Ok(is_ours) => warn_if_lost(&from, is_ours, log),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    /// Removes both, but only while they are ours.
    pub(in crate::driver) fn remove(&mut self, log: &Log) {
        if let Some(control) = self.control.take()
            && let Err(error) = control.remove()
        {
            log.warn(format_args!("cannot remove the control socket: {error}"));
        }
        if let Some(pid_file) = self.pid_file.take()
            && let Err(error) = pid_file.remove()
        {
            log.warn(format_args!("cannot remove the pid file: {error}"));
        }
    }
}

fn log_made_anew(what: &str, path: &Path, log: &Log) {
    log.warn(format_args!(
        "{what} {} had been removed by another process: it is made anew",
        path.display()
    ));
}

/// Whether the path can be taken anew.
fn is_free(what: &str, path: &Path, found: io::Result<AtPath>) -> Result<bool> {
    let what = || format!("{what} {} is not ours any more", path.display());
    match found {
        Ok(AtPath::Ours) => Ok(false),
        Ok(AtPath::Nothing) => Ok(true),
        Ok(AtPath::Another) => {
            let why = "another process has put something else there";
            Err(Error::system(what(), why).hint("move that away"))
        }
        Err(error) => Err(Error::system(what(), error)),
    }
}

fn warn_if_lost(path: &Path, is_ours: bool, log: &Log) {
    if !is_ours {
        log.warn(format_args!(
            "{} is not ours any more: another process has removed or replaced it",
            path.display()
        ));
    }
}
