//! The name of the program, and data on stdout.

use std::io::Write;

use crate::error::{Error, Result};

/// The name of the program in its messages.
pub(super) const PROGRAM: &str = "pf-ctl";

/// Writes data to stdout. A closed pipe is no error: the reader has read what it wanted.
pub(super) fn print_data(text: &str) -> Result<()> {
    print_while_read(text).map(|_| ())
}

/// The same; whether stdout still has a reader.
pub(super) fn print_while_read(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::system("cannot write to standard output", error)),
    }
}
