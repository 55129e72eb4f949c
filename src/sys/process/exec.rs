//! Replaces this process by the next program of the chain.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Exit};

/// Executes `program` with `args` in place of this process. The program's environment is exactly
/// `environment`, and the program is looked up in the PATH in it.
///
/// Returns only if that failed: with exit 127 if there is no such program, 126 if it cannot be
/// executed (as env(1) and nice(1) do). SIGPIPE, which Rust's runtime ignores, is at its default
/// again in the next program; other dispositions stay as they were.
pub fn become_program<K, V>(
    program: &OsStr,
    args: &[OsString],
    environment: impl IntoIterator<Item = (K, V)>,
) -> Error
where
    K: AsRef<OsStr>,
    V: AsRef<OsStr>,
{
    let error = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment)
        .exec();
    let what = format!("cannot execute {}", Path::new(program).display());
    let missing = error.kind() == io::ErrorKind::NotFound;
    let why = match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    let failed = Error::new(
        if missing {
            Exit::NotFound
        } else {
            Exit::NotExecutable
        },
        what,
        why,
    );
    if missing && program.as_encoded_bytes().contains(&b'/') && Path::new(program).exists() {
        return failed
            .hint("the file is there: its interpreter, or the one in its #! line, is not");
    }
    failed
}
