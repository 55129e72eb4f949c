//! The paths that the master publishes: its pid file and its control socket.
//!
//! During an upgrade by fork the old master's are moved aside, to `.oldbin`, and the new master has
//! the plain ones.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::log::Log;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::wire::names::{old_control, old_pid_file};

/// The control socket, listening, and the pid file, locked.
#[derive(Default)]
pub(in crate::driver) struct PublishedPaths {
    control: Option<ControlSocket>,
    pid_file: Option<PidFile>,
    /// The plain paths, while both are moved aside.
    plain: Option<Paths>,
}

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
        }
    }

    pub(in crate::driver) fn control(&self) -> Option<&ControlSocket> {
        self.control.as_ref()
    }

    pub(in crate::driver) fn pid_file(&self) -> Option<&PidFile> {
        self.pid_file.as_ref()
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

fn warn_if_lost(path: &Path, is_ours: bool, log: &Log) {
    if !is_ours {
        log.warn(format_args!(
            "{} is not ours any more: another process has removed or replaced it",
            path.display()
        ));
    }
}
