//! One file a binary: its command line and what it does.

use std::io::Write;
use std::process::ExitCode;

use crate::error::{Exit, Result};

pub mod accept;
pub mod ctl;
pub mod listen;
pub mod master;
pub mod status;
pub(crate) mod values;

/// Runs a program; its error becomes one line on stderr.
pub(crate) fn run(prog: &str, body: impl FnOnce() -> Result<Exit>) -> ExitCode {
    let exit = body().unwrap_or_else(|error| {
        say(prog, &error.to_string());
        error.exit
    });
    exit.into()
}

/// One line for people, on stderr.
pub(crate) fn say(prog: &str, line: &str) {
    // Nobody is left to tell that stderr cannot be written.
    let _ = writeln!(std::io::stderr(), "{prog}: {line}");
}

/// Reads the command line. What clap has to say instead (help, the version, a usage error) is written here, and the exit code is the error.
pub(crate) fn arguments<T: clap::Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        // A reader that has gone away (`--help | head -1`) is not an error.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()))
    })
}
