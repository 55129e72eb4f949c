//! The errors that several files of this room report.

use std::io::{self, ErrorKind};

use crate::error::{Error, Exit};

/// The connection ended before the reply, with the master.
pub(crate) fn master_died() -> Error {
    Error::new(Exit::NotRunning, "the master died before it answered", "")
}

/// The master lives, and has closed the connection without a word: it asks for a token.
/// `presented`: it was shown one.
pub(crate) fn no_word(presented: bool) -> Error {
    let (why, hint) = if presented {
        (
            "it asks for another token than this one",
            "present its own with --token FILE",
        )
    } else {
        ("it asks for a token", "present it with --token FILE")
    };
    let what = "the master has closed the connection without an answer";
    Error::new(Exit::Permission, what, why).hint(hint)
}

/// No master runs.
pub(super) fn not_running(why: impl Into<String>) -> Error {
    Error::new(Exit::NotRunning, "not running", why.into())
}

/// A refused permission is exit 4, every other error of the system exit 111.
pub(super) fn denied_or_system(what: String, error: &io::Error) -> Error {
    let exit = if error.kind() == ErrorKind::PermissionDenied {
        Exit::Permission
    } else {
        Exit::System
    };
    Error::new(exit, what, error)
}
