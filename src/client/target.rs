//! What a user points at: a pid file or a control socket; and the master behind it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Connection;
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::files::pidfile;
use crate::sys::files::pidfile::Owner;
use crate::sys::machine::clock;
use crate::sys::process::descendants;
use crate::wire::names::{control_path, old_control, old_pid_file};

/// How long a live master without a control socket is watched before it counts as one that has none: it may just be leaving,
/// its socket gone already and its lock not yet.
const LEAVING: Duration = Duration::from_millis(200);

/// How often that is looked at which has no descriptor to wait on.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A pid file or a control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
}

/// A live master, held by a pidfd: its number cannot become another's meanwhile.
#[derive(Debug)]
pub struct Master {
    pid: i32,
    process: OwnedFd,
}

/// A master that runs.
#[derive(Debug)]
pub struct Reach {
    /// Its control connection; `None` where it has no control socket and can only be sent signals.
    pub control: Option<Connection>,
    /// Its process; `None` where it lives in another pid namespace.
    pub master: Option<Master>,
}

enum Kind {
    PidFile,
    Socket,
}

impl Target {
    /// A target; what it is, is found out anew at each use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Target { path: path.into() }
    }

    /// As the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The master behind the target, connected if it has a control socket.
    ///
    /// Errors: exit 3 where nothing runs (no file, a stale one, nobody listens), 4 without permission, 5 when it does not accept by
    /// `deadline`. The number in a pid file is never looked at: only the owner of its lock counts.
    ///
    /// While an upgrade by fork waits for the new master, the service is the old one, by its `.oldbin` names.
    pub fn reach(&self, deadline: Option<Time>) -> Result<Reach> {
        self.wherever(|target| target.reach_here(deadline))
    }

    fn reach_here(&self, deadline: Option<Time>) -> Result<Reach> {
        let (path, owner) = match self.kind()? {
            Kind::Socket => (self.path.clone(), None),
            // The process before the connection: then a socket that has gone tells a leaving master from a mute one.
            Kind::PidFile => (control_path(&self.path), Some(self.owner()?)),
        };
        match (Connection::open(&path, deadline), owner) {
            (Ok(control), Some(master)) => Ok(Reach {
                control: Some(control),
                master,
            }),
            (Ok(control), None) => Ok(Reach {
                master: control.master()?,
                control: Some(control),
            }),
            (Err(error), Some(master)) if nobody_listens(&error) => {
                if self.leaves(master.as_ref())? {
                    return Err(not_running("it has just left"));
                }
                // One that has just come has its lock a moment before its socket.
                Ok(Reach {
                    control: Connection::open(&path, deadline).ok(),
                    master,
                })
            }
            (Err(error), None) if nobody_listens(&error) => {
                Err(not_running(format!("nobody listens on {}", path.display())))
            }
            (Err(error), _) => Err(cannot_connect(&path, &error)),
        }
    }

    /// The live master's process, without its control socket where the target is a pid file.
    ///
    /// `None`: it runs in another pid namespace. Errors: exit 3 where nothing runs.
    pub fn master(&self, deadline: Option<Time>) -> Result<Option<Master>> {
        self.wherever(|target| match target.kind()? {
            Kind::PidFile => target.owner(),
            Kind::Socket => Ok(target.reach_here(deadline)?.master),
        })
    }

    /// Where it is, or by its `.oldbin` names if it is not there; and once more where it should be, for one that takes them back in just that moment.
    fn wherever<T>(&self, look: impl Fn(&Target) -> Result<T>) -> Result<T> {
        let pid_file = self.path.with_extension("pid");
        let places = [
            self.path.clone(),
            // For a pid file or a socket of any name, and for the control socket of a pid file.
            old_pid_file(&self.path),
            old_control(&self.path, Some(&pid_file)),
        ];
        for path in places {
            match look(&Target::new(path)) {
                Err(error) if error.exit == Exit::NotRunning => {}
                found => return found,
            }
        }
        look(self)
    }

    /// What to say where a verb needs the control socket and there is none.
    pub fn no_control(&self) -> String {
        format!(
            "this master has no control socket at {}",
            control_path(&self.path).display()
        )
    }

    fn kind(&self) -> Result<Kind> {
        let absent = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        };
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(meta) if meta.file_type().is_socket() => Ok(Kind::Socket),
            Ok(meta) if meta.is_file() => Ok(Kind::PidFile),
            // Opening a FIFO would wait for its other end.
            Ok(_) => Err(Error::usage(format!(
                "{path} is neither a pid file nor a control socket"
            ))),
            Err(error) if absent(&error) => Err(not_running(format!("there is no {path}"))),
            Err(error) => Err(denied_or_system(format!("cannot look at {path}"), &error)),
        }
    }

    fn owner(&self) -> Result<Option<Master>> {
        match pidfile::owner(&self.path)? {
            Owner::Absent => Err(not_running(format!("there is no {}", self.path.display()))),
            Owner::Stale => Err(self.stale()),
            Owner::Unreachable => Ok(None),
            Owner::Alive(_) => match pidfile::open_owner(&self.path)? {
                Some((pid, process)) => Ok(Some(Master::new(pid, process))),
                None => Err(self.stale()),
            },
        }
    }

    fn stale(&self) -> Error {
        not_running(format!(
            "{} is stale, no process holds its lock",
            self.path.display()
        ))
    }

    fn leaves(&self, master: Option<&Master>) -> Result<bool> {
        let until = clock::now() + LEAVING;
        match master {
            Some(master) => master.wait_gone(Some(until)),
            None => {
                clock::pause(LEAVING);
                Ok(self
                    .owner()
                    .is_err_and(|error| error.exit == Exit::NotRunning))
            }
        }
    }
}

impl Master {
    /// A process that is known to be the master.
    pub(super) fn new(pid: i32, process: OwnedFd) -> Self {
        Master { pid, process }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal. Errors: exit 4 where we may not, 3 where it has gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        pidfile::pidfd_signal(&self.process, signal).map_err(|error| {
            if self.wait_gone(Some(Time(0))).unwrap_or(false) {
                return not_running(format!("process {} has gone", self.pid));
            }
            denied_or_system(
                format!("cannot send {signal} to process {}", self.pid),
                &error,
            )
        })
    }

    /// Kills it, with all that descends from it: stopped, it neither starts anybody nor reaps.
    ///
    /// Errors: as of [`signal`](Self::signal).
    pub fn kill_with_kin(&self) -> Result<()> {
        // Its own namespace cannot end pid 1, which would only start them anew.
        if self.pid != 1 {
            self.signal(Signal::Stop)?;
            descendants::kill_descendants(self.pid, &|| {
                !self.wait_gone(Some(Time(0))).unwrap_or(true)
            });
        }
        self.signal(Signal::Kill)
    }

    /// Waits until it has exited, or until `deadline`; whether it has. A zombie has exited: its parent may reap it late.
    pub fn wait_gone(&self, deadline: Option<Time>) -> Result<bool> {
        pidfile::pidfd_wait(&self.process, deadline)
            .map_err(|error| Error::system(format!("cannot wait for process {}", self.pid), error))
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
}

fn not_running(why: impl Into<String>) -> Error {
    Error::new(Exit::NotRunning, "not running", why.into())
}

fn cannot_connect(path: &Path, error: &io::Error) -> Error {
    if error.kind() == ErrorKind::WouldBlock {
        return Error::new(
            Exit::Timeout,
            format!(
                "the master does not accept connections on {}",
                path.display()
            ),
            "",
        );
    }
    denied_or_system(format!("cannot connect to {}", path.display()), error)
}

fn denied_or_system(what: String, error: &io::Error) -> Error {
    let exit = if error.kind() == ErrorKind::PermissionDenied {
        Exit::Permission
    } else {
        Exit::System
    };
    Error::new(exit, what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_socket_of_a_pid_file() {
        for (pid_file, control) in [
            ("/run/app.pid", "/run/app.ctl"),
            ("/run/app", "/run/app.ctl"),
            ("a.pid.oldbin", "a.pid.oldbin.ctl"),
        ] {
            assert_eq!(control_path(Path::new(pid_file)), Path::new(control));
        }
    }

    #[test]
    fn what_is_absent_or_neither_is_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let none = Target::new(dir.path().join("none.pid"))
            .reach(None)
            .expect_err("absent");
        assert_eq!(none.exit, Exit::NotRunning);
        assert_eq!(
            Target::new(dir.path())
                .reach(None)
                .expect_err("a directory")
                .exit,
            Exit::Usage
        );
    }
}
