//! One file a binary: its command line and what it does.

use std::io::Write;
use std::process::ExitCode;

use crate::error::{Exit, Result};

pub mod ctl;
pub mod listen;
pub mod master;
pub mod status;
pub(crate) mod values;

/// Runs a program; its error becomes one line on stderr.
pub(crate) fn run(prog: &str, body: impl FnOnce() -> Result<Exit>) -> ExitCode {
    let exit = body().unwrap_or_else(|error| {
        // Nobody is left to tell that stderr cannot be written.
        let _ = writeln!(std::io::stderr(), "{prog}: {error}");
        error.exit
    });
    exit.into()
}
