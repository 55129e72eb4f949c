//! The error type, which is always one line, and the exit codes of all programs.

use std::fmt;
use std::process::ExitCode;

/// How a program exits. The numbers are part of the interface: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed (the old state was kept), rolled back, degraded, or gave up.
    Failed,
    /// 2: wrong usage.
    Usage,
    /// 3: not running, or the master died before it answered.
    NotRunning,
    /// 4: no permission.
    Permission,
    /// 5: not finished within `--timeout`.
    Timeout,
    /// 6: refused: another operation is under way, another master owns the name, or the request
    /// does not fit the present state.
    Refused,
    /// 111: a system call failed (bind, open, fork).
    System,
    /// 126: the next program is not executable.
    NotExecutable,
    /// 127: the next program was not found.
    NotFound,
}

impl Exit {
    /// The number that the process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::Permission => 4,
            Exit::Timeout => 5,
            Exit::Refused => 6,
            Exit::System => 111,
            Exit::NotExecutable => 126,
            Exit::NotFound => 127,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// What failed, why, and what to do: `what: why (hint)`, always one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What failed, with its object: `cannot bind tcp:127.0.0.1:80`.
    pub what: String,
    /// Why: `Permission denied`. May be empty.
    pub why: String,
    /// What to do. May be empty.
    pub hint: String,
    /// How the process exits if no caller handles the error.
    pub exit: Exit,
}

/// Why something failed, without the ` (os error N)` that the standard library appends.
pub fn reason(why: impl fmt::Display) -> String {
    let mut text = why.to_string();
    while let Some(start) = text.find(" (os error ") {
        let end = text[start..]
            .find(')')
            .map_or(text.len(), |end| start + end + 1);
        text.replace_range(start..end, "");
    }
    text
}

/// The result type of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A system call failed (exit 111).
    pub fn system(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Error::new(Exit::System, what, why)
    }

    /// A usage error (exit 2).
    pub fn usage(what: impl Into<String>) -> Self {
        Error::new(Exit::Usage, what, "")
    }

    /// An error that ends the process with `exit`.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Error {
            what: what.into(),
            why: reason(why),
            hint: String::new(),
            exit,
        }
    }

    /// The same error, with a hint what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A file name or a worker's text may contain a newline. An error stays one line.
        let mut line = self.what.clone();
        for (before, part, after) in [(": ", &self.why, ""), (" (", &self.hint, ")")] {
            if !part.is_empty() {
                line.push_str(before);
                line.push_str(part);
                line.push_str(after);
            }
        }
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error =
            Error::system("cannot bind tcp:127.0.0.1:80", "Permission\ndenied").hint("run as root");
        assert_eq!(
            error.to_string(),
            "cannot bind tcp:127.0.0.1:80: Permission denied (run as root)"
        );
        assert_eq!(Error::usage("no COMMAND").to_string(), "no COMMAND");
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(
            Error::system("cannot open x", missing).to_string(),
            "cannot open x: No such file or directory"
        );
    }
}
