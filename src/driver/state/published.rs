//! The names in the file system: the old master's end in `.oldbin` while the new one has the plain ones.

use std::path::{Path, PathBuf};

use crate::driver::Driver;
use crate::error::Result;
use crate::sys::files::pidfile;
use crate::sys::files::pidfile::Owner;
use crate::sys::process::child;
use crate::wire::names::{old_control, old_pid_file};

/// Where the names of an old master belong when it is alone.
#[derive(Debug, Clone)]
pub(in crate::driver) struct PublishedPaths {
    pid_file: Option<PathBuf>,
    control: Option<PathBuf>,
}

impl Driver {
    /// Why no second master may be started, whatever the model says.
    pub(in crate::driver) fn why_no_fork(&self) -> Option<String> {
        let in_place = "upgrade in place";
        if std::process::id() == 1 {
            return Some(format!(
                "pid 1 cannot leave its place to another: {in_place}"
            ));
        }
        let environment = &self.origin.environment;
        let holder = environment.iter().find(|(name, _)| name == "PF_HOLD");
        if child::is_held(holder.and_then(|(_, pid)| pid.to_str())) {
            return Some(format!(
                "pf-listen --hold keeps this one master running: {in_place}"
            ));
        }
        let old = old_pid_file(self.pid_file.as_ref()?.path());
        match pidfile::owner(&old) {
            Ok(Owner::Alive(pid)) => Some(format!(
                "{} names process {pid}, which lives",
                old.display()
            )),
            Ok(Owner::Unreachable) => Some(format!(
                "{} is owned by a process of another pid namespace",
                old.display()
            )),
            Ok(Owner::Absent | Owner::Stale) | Err(_) => None,
        }
    }

    /// Gives the plain names away.
    pub(super) fn step_aside(&mut self) -> Result<()> {
        let pid_file = self.pid_file.as_ref().map(|file| file.path().to_owned());
        let control = self
            .control
            .as_ref()
            .map(|control| control.path().to_owned());
        self.home = Some(PublishedPaths {
            pid_file: pid_file.clone(),
            control: control.clone(),
        });
        let aside = PublishedPaths {
            control: control.map(|control| old_control(&control, pid_file.as_deref())),
            pid_file: pid_file.map(|path| old_pid_file(&path)),
        };
        let moved = self.move_to(&aside);
        if moved.is_err() {
            self.take_names_back();
        }
        moved
    }

    /// Takes them back.
    pub(super) fn take_names_back(&mut self) {
        let Some(home) = self.home.take() else {
            return;
        };
        if let Err(error) = self.move_to(&home) {
            self.log.error(format_args!("{error}"));
        }
    }

    /// Both, even if one fails: the first error.
    fn move_to(&mut self, place: &PublishedPaths) -> Result<()> {
        let mut result = Ok(());
        let warn = |what: &Path| {
            self.log.warn(format_args!(
                "{} is not ours any more: somebody has removed or replaced it",
                what.display()
            ));
        };
        if let (Some(control), Some(to)) = (&mut self.control, &place.control) {
            let from = control.path().to_owned();
            match control.move_to(to) {
                Ok(false) => warn(&from),
                Ok(true) => {}
                Err(error) => result = Err(error),
            }
        }
        if let (Some(file), Some(to)) = (&mut self.pid_file, &place.pid_file) {
            let from = file.path().to_owned();
            match file.move_to(to) {
                Ok(false) => warn(&from),
                Ok(true) => {}
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }
}
