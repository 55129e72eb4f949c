//! The blocking control client: finding the master that a user points at, one request, its answers.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::wire::proto::{Answer, Request, parse_answer};

/// A pid file or a control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
}

/// A master that runs.
#[derive(Debug)]
pub struct Reach {
    /// Its control connection; `None` where it has no control socket.
    pub control: Option<Connection>,
}

/// A connection to a master.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it says.
    pub answer: Answer,
    /// The line itself, with whatever a newer master put into it.
    pub text: String,
}

impl Target {
    /// A target; what it is, is found out anew at each use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Target { path: path.into() }
    }

    /// The master behind the target, connected if it has a control socket.
    ///
    /// # Errors
    /// Exit 3 where nothing runs, 4 without permission.
    pub fn reach(&self, _deadline: Option<Time>) -> Result<Reach> {
        let meta = std::fs::metadata(&self.path).map_err(|error| cannot("look at", &self.path, &error))?;
        let (path, alive) = match meta.file_type().is_socket() {
            true => (self.path.clone(), false),
            false => (self.control_path(), self.is_locked()?),
        };
        if !meta.file_type().is_socket() && !alive {
            return Err(Error::new(Exit::NotRunning, "not running", "the pid file is stale"));
        }
        match UnixStream::connect(&path) {
            Ok(stream) => {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                Ok(Reach { control: Some(Connection { stream: BufReader::new(stream) }) })
            }
            Err(error) if alive && is_absent(&error) => Ok(Reach { control: None }),
            Err(error) => Err(cannot("connect to", &path, &error)),
        }
    }

    /// What to say where the control socket is needed and there is none.
    pub fn no_control(&self) -> String {
        format!("this master has no control socket at {}", self.control_path().display())
    }

    fn control_path(&self) -> PathBuf {
        if self.path.extension().is_some_and(|extension| extension == "pid") {
            return self.path.with_extension("ctl");
        }
        let mut path = self.path.clone().into_os_string();
        path.push(".ctl");
        path.into()
    }

    fn is_locked(&self) -> Result<bool> {
        let file = std::fs::File::open(&self.path).map_err(|error| cannot("open", &self.path, &error))?;
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_GETLK(&mut lock))
            .map_err(|error| cannot("look at the lock of", &self.path, &error.into()))?;
        Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
    }
}

impl Connection {
    /// Sends one request.
    ///
    /// # Errors
    /// Exit 3 where the master has gone.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request).map_err(|error| Error::system("cannot write the request", error))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|error| Error::new(Exit::NotRunning, "not running", error))
    }

    /// The next line, or `None` when the master has closed the connection.
    ///
    /// # Errors
    /// Exit 1 for a line that makes no sense, 5 where none comes.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        let mut text = String::new();
        match self.stream.read_line(&mut text) {
            Ok(0) => Ok(None),
            Ok(_) => match parse_answer(&text) {
                Ok(answer) => Ok(Some(Line { answer, text: text.trim().to_owned() })),
                Err(error) => Err(Error::new(Exit::Failed, "the master's answer makes no sense", error)),
            },
            Err(error) => Err(Error::new(Exit::Timeout, "the master does not answer", error)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    let exit = match error.kind() {
        _ if is_absent(error) => Exit::NotRunning,
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::System,
    };
    Error::new(exit, format!("cannot {what} {}", path.display()), error)
}
