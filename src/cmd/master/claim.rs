//! Takes the control socket and the pid file, by which clients find this master.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cli::{Args, ControlSpec};
use crate::error::{Error, Exit, Result};
use crate::sys::control::token::TokenFile;
use crate::sys::control::{self, ControlSocket};
use crate::sys::files::pidfile;
use crate::sys::files::pidfile::{Owner, PidFile};
use crate::sys::machine::{clock, users};
use crate::wire::address::{Address, Kind, ListenSpec};
use crate::wire::names::{control_path, old_control, old_pid_file};

/// How long a start that finds its control socket taken waits for the pid file of the other master.
const RIVAL_WITHIN: Duration = Duration::from_secs(1);

/// Where a control socket is bound.
pub(super) struct ControlPlace {
    pub(super) path: PathBuf,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

/// Binds the control socket, and then creates the pid file: who sees the pid file can connect.
///
/// # Errors
/// Exit 6: another live master owns the pid file.
pub(super) fn claim(args: &Args) -> Result<(Option<ControlSocket>, Option<PidFile>)> {
    if let Some(path) = &args.pid {
        refuse_rival(path)?;
    }
    let control = match control_of(args)? {
        None => None,
        Some(place) => match place.bind() {
            Ok(control) => Some(control),
            Err(error) => {
                // Another master that starts at the same time may be one step ahead: it has the
                // socket already, and its pid file appears in a moment. Then the error names it.
                let until = clock::now() + RIVAL_WITHIN;
                while let (Some(pid), true) = (&args.pid, clock::now() < until) {
                    refuse_rival(pid)?;
                    clock::pause(Duration::from_millis(10));
                }
                return Err(error);
            }
        },
    };
    match args.pid.as_deref().map(PidFile::acquire).transpose() {
        Ok(pid_file) => Ok((control, pid_file)),
        Err(error) => {
            if let Some(control) = control {
                // The error of the pid file is the one to report.
                let _ = control.remove();
            }
            Err(error)
        }
    }
}

fn refuse_rival(pid_file: &Path) -> Result<()> {
    match pidfile::owner(pid_file) {
        Ok(Owner::Alive(pid)) => {
            let what = format!("pid file {}", pid_file.display());
            Err(
                Error::new(Exit::Refused, what, format!("master {pid} owns it"))
                    .hint("stop that master first"),
            )
        }
        Ok(Owner::Unreachable) => {
            let what = format!("pid file {}", pid_file.display());
            Err(Error::new(
                Exit::Refused,
                what,
                "a process of another pid namespace owns it",
            ))
        }
        // An unreadable pid file is reported when this master tries to take it.
        Ok(Owner::Absent | Owner::Stale) | Err(_) => Ok(()),
    }
}

impl ControlPlace {
    fn bind(&self) -> Result<ControlSocket> {
        ControlSocket::bind(&self.path, self.mode, self.owner, self.group)
    }
}

/// What the options say that control clients must present.
///
/// # Errors
/// Exit 111: the file cannot be read, or holds no token.
pub(super) fn control_token(args: &Args) -> Result<Option<TokenFile>> {
    let read = |path: &PathBuf| {
        // Read again after a change of directory too.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let what = format!("control token {}", path.display());
        TokenFile::read(path).map_err(|error| Error::system(what, error))
    };
    args.control_token.as_ref().map(read).transpose()
}

/// Where the options say that the control socket is. `None`: there is none.
pub(super) fn control_of(args: &Args) -> Result<Option<ControlPlace>> {
    if args.no_control {
        return Ok(None);
    }
    match (&args.control, &args.pid) {
        (Some(ControlSpec(spec)), _) => control_place(spec).map(Some),
        (None, Some(pid_file)) => Ok(Some(ControlPlace {
            path: control_path(pid_file),
            mode: 0o600,
            owner: None,
            group: None,
        })),
        (None, None) => Ok(None),
    }
}

fn control_place(spec: &ListenSpec) -> Result<ControlPlace> {
    let wrong = |why: &str| Error::usage(format!("--control {spec}: {why}"));
    let Address::Unix(Kind::Stream, path) = &spec.address else {
        return Err(wrong("a control socket is a Unix path"));
    };
    let options = &spec.options;
    let owner = options.owner.as_deref().map(users::uid).transpose()?;
    let group = options.group.as_deref().map(users::gid).transpose()?;
    let known = crate::wire::address::Options {
        mode: options.mode,
        owner: options.owner.clone(),
        group: options.group.clone(),
        ..Default::default()
    };
    if known != *options {
        return Err(wrong(
            "a control socket only takes the options mode=, owner= and group=",
        ));
    }
    Ok(ControlPlace {
        path: path.clone(),
        mode: options.mode.unwrap_or(0o600),
        owner: owner.map(|uid| uid.as_raw()),
        group: group.map(|gid| gid.as_raw()),
    })
}

/// Removes the `.oldbin` names that an old master left when it was killed beside its new master.
/// The names of a live old master stay. If this fails, the error comes when the names are needed.
pub(super) fn remove_stale_old_names(control: Option<&ControlSocket>, pid_file: Option<&PidFile>) {
    if let Some(file) = pid_file {
        let _ = pidfile::remove_stale(&old_pid_file(file.path()));
    }
    if let Some(control) = control {
        let _ = control::remove_dead(&old_control(control.path(), pid_file.map(PidFile::path)));
    }
}
