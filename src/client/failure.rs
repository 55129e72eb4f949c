//! The errors that several files of this room report.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::master::Master;
use crate::error::{Error, Exit};
use crate::sys::machine::clock;

/// How long after the end of a connection a master that dies may take to be gone: a process closes
/// its descriptors a moment before.
const END_WITHIN: Duration = Duration::from_secs(1);

/// The connection ended before the reply, with the master.
pub(crate) fn master_died() -> Error {
    Error::new(Exit::NotRunning, "the master died before it answered", "")
}

/// The connection ended before the reply. `master`: its process, if that is known. An answer that
/// did not come is no sign that it died.
pub(crate) fn unanswered(master: Option<&Master>) -> Error {
    let until = Some(clock::now() + END_WITHIN);
    let lives = master.is_some_and(|master| !master.wait_gone(until).unwrap_or(false));
    if !lives {
        return master_died();
    }
    let why = "the connection broke, and the master lives";
    Error::new(Exit::Failed, "no answer", why)
        .hint("whether it was done is not known: see pf-status")
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
