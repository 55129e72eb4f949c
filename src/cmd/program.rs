//! What all binaries share: read the command line, run, print an error as one line.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::error::{Error, Exit, Result};
use crate::sys::io::log_sink::write_to_stderr;
use crate::sys::io::terminal;

/// Runs a program. Its error becomes one line on stderr.
pub(super) fn run(program: &str, body: impl FnOnce() -> Result<Exit>) -> ExitCode {
    let exit = body().unwrap_or_else(|error| {
        print_line(program, &error.to_string());
        error.exit
    });
    exit.into()
}

/// Writes one line to stderr.
pub(super) fn print_line(program: &str, line: &str) {
    // Where stderr cannot be written, there is no other place to report that.
    let _ = write_to_stderr(&format!("{program}: {line}\n"));
}

/// Writes data to stdout. False: the pipe is closed, which is no error, as the reader has read what
/// it wanted.
pub(super) fn print_data(pieces: &[&str]) -> Result<bool> {
    let mut out = io::stdout().lock();
    let written = pieces
        .iter()
        .try_for_each(|piece| out.write_all(piece.as_bytes()));
    match written.and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::system("cannot write to standard output", error)),
    }
}

/// The most columns that a line may have: the terminal's, else what `COLUMNS` says. `None`: any.
pub(super) fn output_width() -> Option<usize> {
    let columns = std::env::var("COLUMNS").ok();
    let columns = columns.and_then(|columns| columns.parse().ok());
    let size = terminal::size(io::stdout());
    size.map(|size| size.columns)
        .or(columns)
        .filter(|width| *width > 0)
}

/// Reads the command line. Where it asks for help or the version, or is wrong, this prints the text
/// and returns the exit code as the error.
pub(super) fn arguments<T: clap::Parser>() -> Result<T, ExitCode> {
    arguments_with_tip(|_| None)
}

/// As [`arguments`], with a tip of the program's own in place of clap's.
pub(super) fn arguments_with_tip<T: clap::Parser>(
    tip: impl Fn(&clap::Error) -> Option<String>,
) -> Result<T, ExitCode> {
    T::try_parse().map_err(|answer| {
        let name = T::command().get_name().to_owned();
        match usage_error(&answer) {
            Some(mut error) => {
                error.why = tip(&answer).unwrap_or(error.why);
                let error = error.hint(format!("see {name} --help"));
                print_line(&name, &error.to_string());
            }
            // A closed pipe (`--help | head -1`) is not an error.
            None => drop(answer.print()),
        }
        ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(Exit::Usage.code()))
    })
}

/// What is wrong with a command line, in one line. clap's text continues after an empty line with
/// the usage and a pointer to `--help`; that part is dropped. `None`: the user asked for help.
pub(super) fn usage_error(answer: &clap::Error) -> Option<Error> {
    let text = answer.render().to_string();
    let text = text.strip_prefix("error: ")?;
    let wrong = text.split("\n\n").next()?;
    let mut parts = wrong.lines().map(str::trim);
    let mut line = parts.next()?.to_owned();
    for (number, part) in parts.enumerate() {
        line.push_str(if number == 0 { " " } else { ", " });
        line.push_str(part);
    }
    let mut tips = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("tip: "));
    // clap also proposes to pass a misspelt option as an operand, which is never meant.
    let tip = tips.find(|tip| !tip.starts_with("to pass "));
    Some(Error {
        why: tip.unwrap_or_default().to_owned(),
        ..Error::usage(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::ctl;

    #[test]
    fn a_usage_error_is_one_line_and_help_is_none() {
        for (line, expected) in [
            (
                "pf-ctl scale",
                Some("the following required arguments were not provided: <TARGET>, <N|+N|-N>"),
            ),
            (
                "pf-ctl reload T --wai",
                Some("unexpected argument '--wai' found"),
            ),
            (
                "pf-ctl signal T NOPE",
                Some("invalid value 'NOPE' for '<SIG>': unknown signal 'NOPE' (names"),
            ),
            ("pf-ctl dance T", Some("unrecognized subcommand 'dance'")),
            (
                "pf-ctl scal T 3",
                Some("unrecognized subcommand 'scal': some similar subcommands exist: "),
            ),
            ("pf-ctl --help", None),
            ("pf-ctl --version", None),
        ] {
            let answer = ctl::command()
                .try_get_matches_from(line.split(' '))
                .expect_err(line);
            let line = usage_error(&answer).map(|error| error.to_string());
            let same = match (&line, expected) {
                (Some(line), Some(expected)) => line.starts_with(expected),
                (line, expected) => line.is_none() && expected.is_none(),
            };
            assert!(same, "{line:?}");
        }
    }
}
