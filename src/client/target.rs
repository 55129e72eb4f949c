//! What the user names, a pid file or a control socket, and the master behind it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::connection::ControlConnection;
use super::failure::{denied_or_system, master_died, no_word, not_running};
use super::master::Master;
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::control::token::Token;
use crate::sys::files::pidfile;
use crate::sys::files::pidfile::Owner;
use crate::sys::machine::clock;
use crate::wire::names::{control_path, old_control, old_pid_file};

/// A live master whose control socket does not answer may be exiting: it removes the socket first,
/// and releases the lock on the pid file last. It gets this long to exit. After that it counts as a
/// master without a control socket.
const LEAVING: Duration = Duration::from_millis(200);

/// How often to look again where there is no descriptor to wait on.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A pid file or a control socket.
#[derive(Clone)]
pub struct Target {
    path: PathBuf,
    token: Option<Rc<Token>>,
}

/// How long after the end of a connection a master that dies may take to be gone: a process closes
/// its descriptors a moment before.
const END_WITHIN: Duration = Duration::from_secs(1);

/// A running master, and how it can be reached.
#[derive(Debug)]
pub struct Reach {
    /// The control connection. `None`: the master has no control socket and only takes signals.
    pub control: Option<ControlConnection>,
    /// The process. `None`: it runs in another pid namespace.
    pub master: Option<Master>,
    /// The process holds the lock of a pid file: so it is the master. Of a socket only the process
    /// is known that began to listen.
    holds_lock: bool,
}

impl Reach {
    /// The connection ended before the reply. A master that lives and has not said a word asks for
    /// a token. One that is known by its lock and lives has not died; otherwise the end of the
    /// connection is all that is known of it.
    pub fn unanswered(&self, connection: &ControlConnection) -> Error {
        let until = Some(clock::now() + END_WITHIN);
        let lives = |master: &Master| !master.wait_gone(until).unwrap_or(true);
        if !self.master.as_ref().is_some_and(lives) {
            return master_died();
        }
        if !connection.has_heard() {
            return no_word(connection.presents_token());
        }
        if !self.holds_lock {
            return master_died();
        }
        let why = "the connection broke, and the master lives";
        Error::new(Exit::Failed, "no answer", why)
            .hint("whether it was done is not known: see pf-status")
    }
}

impl Reach {
    /// The connection ended, and with it perhaps the master: waits a moment for its end. Whether
    /// the master is known to be gone.
    ///
    /// # Errors
    /// Exit 111: the system does not let us wait.
    pub fn has_ended(&self) -> Result<bool> {
        let until = Some(clock::now() + END_WITHIN);
        let master = self.master.as_ref();
        master.map_or(Ok(false), |master| master.wait_gone(until))
    }
}

enum TargetKind {
    PidFile,
    Socket,
}

impl Target {
    /// A target. Each use finds out anew whether it is a pid file or a socket.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Target { path, token: None }
    }

    /// The target, whose master is presented the content of this file (`--token`).
    ///
    /// # Errors
    /// Exit 4: no permission. Exit 111: there is no such file, or it holds no token.
    pub fn with_token(self, file: Option<&Path>) -> Result<Self> {
        let read = |file: &Path| {
            let what = format!("cannot read token {}", file.display());
            Token::read(file).map_err(|error| denied_or_system(what, &error))
        };
        let token = file.map(read).transpose()?.map(Rc::new);
        Ok(Target { token, ..self })
    }

    fn at(&self, path: PathBuf) -> Target {
        let token = self.token.clone();
        Target { path, token }
    }

    fn open(&self, path: &Path, deadline: Option<Time>) -> io::Result<ControlConnection> {
        let mut connection = ControlConnection::open(path, deadline)?;
        if let Some(token) = &self.token {
            connection.present(token);
        }
        Ok(connection)
    }

    /// The path as the user wrote it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finds the master behind the target, and connects if it has a control socket.
    ///
    /// The number in a pid file is never used: only the owner of the lock on the file counts.
    ///
    /// While an upgrade by fork waits for the new master, the service is the old master, which is
    /// found by its `.oldbin` names.
    ///
    /// # Errors
    /// Exit 3: nothing runs (no file, a stale file, or no process listens). Exit 4: no permission.
    /// Exit 5: the master does not accept before `deadline`.
    pub fn reach(&self, deadline: Option<Time>) -> Result<Reach> {
        self.at_any_name(|target| target.reach_here(deadline))
    }

    fn reach_here(&self, deadline: Option<Time>) -> Result<Reach> {
        let (path, owner) = match self.kind()? {
            TargetKind::Socket => (self.path.clone(), None),
            // Look up the process before connecting: if the connect fails, the process tells
            // whether the master is exiting or has no control socket.
            TargetKind::PidFile => (control_path(&self.path), Some(self.owner()?)),
        };
        match (self.open(&path, deadline), owner) {
            (Ok(control), Some(master)) => Ok(Reach {
                control: Some(control),
                master,
                holds_lock: true,
            }),
            (Ok(control), None) => Ok(Reach {
                master: control.master()?,
                control: Some(control),
                holds_lock: false,
            }),
            (Err(error), Some(master)) if is_not_listening(&error) => {
                if self.exits_soon(master.as_ref())? {
                    return Err(not_running("it has just exited"));
                }
                // A starting master may hold its lock before its socket listens: try once more.
                Ok(Reach {
                    control: self.open(&path, deadline).ok(),
                    master,
                    holds_lock: true,
                })
            }
            (Err(error), None) if is_not_listening(&error) => {
                let why = format!("no process listens on {}", path.display());
                Err(not_running(why))
            }
            (Err(error), _) => Err(cannot_connect(&path, &error)),
        }
    }

    /// The process of the running master. Where the target is a pid file, the control socket is not
    /// needed. `None`: the master runs in another pid namespace.
    ///
    /// # Errors
    /// Exit 3: nothing runs.
    pub fn master(&self, deadline: Option<Time>) -> Result<Option<Master>> {
        self.at_any_name(|target| match target.kind()? {
            TargetKind::PidFile => target.owner(),
            TargetKind::Socket => Ok(target.reach_here(deadline)?.master),
        })
    }

    /// Looks under the target's own name, then under the `.oldbin` names, then under its own name
    /// once more: the old master may take its name back in just this moment.
    fn at_any_name<T>(&self, look: impl Fn(&Target) -> Result<T>) -> Result<T> {
        let pid_file = self.path.with_extension("pid");
        let places = [
            self.path.clone(),
            // The first for a pid file and for a socket of any name, the second for the control
            // socket of a pid file.
            old_pid_file(&self.path),
            old_control(&self.path, Some(&pid_file)),
        ];
        for path in places {
            match look(&self.at(path)) {
                Err(error) if error.exit == Exit::NotRunning => {}
                found => return found,
            }
        }
        look(self)
    }

    /// The error text where a verb needs the control socket and the master has none.
    pub fn no_control(&self) -> String {
        format!(
            "this master has no control socket at {}",
            control_path(&self.path).display()
        )
    }

    fn kind(&self) -> Result<TargetKind> {
        let absent = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        };
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(meta) if meta.file_type().is_socket() => Ok(TargetKind::Socket),
            Ok(meta) if meta.is_file() => Ok(TargetKind::PidFile),
            // Never open it to find out: opening a FIFO waits for the other end.
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
            "{} is stale: no process holds its lock",
            self.path.display()
        ))
    }

    fn exits_soon(&self, master: Option<&Master>) -> Result<bool> {
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

fn is_not_listening(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    )
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
    fn a_missing_target_is_not_running_and_a_directory_is_a_usage_error() {
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
