//! One file a binary: its command line and what it does.

use std::io::Write;
use std::process::ExitCode;

use crate::error::{Error, Exit, Result};

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

/// Reads the command line. What there is to say instead (help, the version, a usage error) is written here, and the exit code is the error.
pub(crate) fn arguments<T: clap::Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|answer| {
        let name = T::command().get_name().to_owned();
        match misused(&answer) {
            Some(error) => say(&name, &error.hint(format!("see {name} --help")).to_string()),
            // A reader that has gone away (`--help | head -1`) is not an error.
            None => drop(answer.print()),
        }
        ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(Exit::Usage.code()))
    })
}

/// What is wrong with a command line, as one line: clap parts it with empty ones from the usage and the way to more help. None: it was help that was asked
/// for.
pub(crate) fn misused(answer: &clap::Error) -> Option<Error> {
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
    // Nobody means an option that he has misspelt as an operand.
    let tip = tips.find(|tip| !tip.starts_with("to pass "));
    Some(Error {
        why: tip.unwrap_or_default().to_owned(),
        ..Error::usage(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_one_line() {
        for (line, told) in [
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
                Some(
                    "invalid value 'NOPE' for '<SIG>': unknown signal 'NOPE' (names are as in TERM, QUIT, USR2)",
                ),
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
            let line = misused(&answer).map(|error| error.to_string());
            let same = match (&line, told) {
                (Some(line), Some(told)) => line.starts_with(told),
                (line, told) => line.is_none() && told.is_none(),
            };
            assert!(same, "{line:?}");
        }
    }
}
