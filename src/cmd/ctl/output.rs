//! The name of the program, and data on stdout.

use crate::cmd::program;
use crate::error::Result;

/// The name of the program in its messages.
pub(super) const PROGRAM: &str = "pf-ctl";

/// Writes data to stdout. A closed pipe is no error: the reader has read what it wanted.
pub(super) fn print_data(text: &str) -> Result<()> {
    program::print_data(&[text]).map(|_| ())
}
