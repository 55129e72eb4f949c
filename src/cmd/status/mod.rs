//! `pf-status`: shows what masters and their workers do, as a table, as JSON, as metrics, or
//! as an exit code.
//!
//! In reading order:
//!
//! - `cli`: the command line;
//! - `answer`: the question to one master: its status document, found within the reply, and the
//!   exit code that is derived from it;
//! - `why`: the story of one slot;
//! - `watch`: the same again and again, in place on a terminal.
//!
//! One run: each target is asked in turn. The document of a single one becomes a table, those of
//! several a line each. The worst exit code is that of the program.

mod answer;
mod cli;
mod watch;
mod why;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use serde::Serialize;

use super::program::{arguments, output_width, print_data, print_line, run};
use crate::client::Target;
use crate::error::{Error, Exit, Result};
use crate::ui::lines::Line;
use crate::ui::services::{self, Service};
use crate::ui::text::escaped_json;
use crate::ui::{metrics, table};
use answer::{StatusReply, fetch};
use cli::{Args, PROG};

/// The command line, for help, man page and completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs `pf-status`.
pub fn main() -> ExitCode {
    match arguments::<Args>() {
        Ok(args) => run(PROG, || status(&args)),
        Err(exit) => exit,
    }
}

fn status(args: &Args) -> Result<Exit> {
    if let Some(slot) = args.why {
        return why::why(args, slot);
    }
    if let Some(interval) = args.watch {
        return watch::watch(args, interval);
    }
    let asked = ask_all(args);
    let exit = worst(&asked);
    if args.quiet {
        // An error is only its exit code.
        return Ok(exit);
    }
    if args.metrics {
        let text = metrics::text(&services(args, &asked))
            .map_err(|error| Error::system("cannot write the metrics", error))?;
        print_data(&[&text])?;
        report(args, &asked);
        return Ok(exit);
    }
    match <[_; 1]>::try_from(asked) {
        Ok([one]) if args.json => drop(print_data(&[&escaped_json(one?.document()), "\n"])?),
        Ok([one]) => {
            let reply = one?;
            let shown = reply
                .status()
                .map(|status| table::lines(status, output_width()));
            print_lines(&shown.unwrap_or_default())?;
        }
        Err(several) if args.json => print_documents(args, &several)?,
        Err(several) => {
            print_lines(&services::lines(&services(args, &several), output_width()))?;
            report(args, &several);
        }
    }
    Ok(exit)
}

/// What became of the question to one target.
type Asked = Result<StatusReply>;

/// Asks every target, in their order.
fn ask_all(args: &Args) -> Vec<Asked> {
    let targets = args.targets.iter();
    targets
        .map(|target| {
            let target = Target::new(target).with_token(args.token.as_deref())?;
            let reply = fetch(&target, args.timeout)?;
            if args.json || args.quiet {
                Ok(reply)
            } else {
                reply.parsed()
            }
        })
        .collect()
}

/// The exit code: the worst service decides.
fn worst(asked: &[Asked]) -> Exit {
    let exits = asked.iter().map(|asked| match asked {
        Ok(reply) => reply.verdict,
        Err(error) => error.exit,
    });
    exits.max_by_key(|exit| exit.code()).unwrap_or(Exit::Done)
}

/// A line of JSON for each target: its document, or why there is none.
fn print_documents(args: &Args, asked: &[Asked]) -> Result<()> {
    #[derive(Serialize)]
    struct Unknown<'a> {
        target: Cow<'a, str>,
        error: String,
    }
    for (target, asked) in args.targets.iter().zip(asked) {
        let unknown = |error: &Error| {
            let unknown = Unknown {
                target: target.to_string_lossy(),
                error: error.to_string(),
            };
            serde_json::to_string(&unknown)
                .map_err(|error| Error::system("cannot write the error", error))
        };
        match asked {
            Ok(reply) => print_data(&[&escaped_json(reply.document()), "\n"])?,
            Err(error) => print_data(&[&escaped_json(&unknown(error)?), "\n"])?,
        };
    }
    Ok(())
}

/// What is shown of the targets: the table of a single one, or why there is none; a line for each
/// of several.
fn lines(args: &Args, asked: &[Asked], width: Option<usize>) -> Vec<Line> {
    let [one] = asked else {
        return services::lines(&services(args, asked), width);
    };
    match one {
        Ok(reply) => {
            let shown = reply.status().map(|status| table::lines(status, width));
            shown.unwrap_or_default()
        }
        Err(error) => vec![Line::bad(&error.to_string(), width)],
    }
}

/// What the line of each target shows.
fn services<'a>(args: &Args, asked: &'a [Asked]) -> Vec<Service<'a>> {
    let known = |asked: &'a Asked| match asked {
        Ok(reply) => reply.status().map(Cow::Borrowed).ok_or_else(String::new),
        Err(error) => Err(error.what.clone()),
    };
    let targets = names(&args.targets).into_iter().zip(asked);
    targets
        .map(|(name, asked)| Service {
            name,
            is_well: asked
                .as_ref()
                .is_ok_and(|reply| reply.verdict == Exit::Done),
            status: known(asked),
        })
        .collect()
}

/// The names of the targets: `app` of `/run/app.pid`, but the whole paths where two are alike.
fn names(targets: &[PathBuf]) -> Vec<String> {
    let stem = |path: &PathBuf| {
        path.file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let short: Vec<Option<String>> = targets.iter().map(stem).collect();
    let distinct: BTreeSet<&Option<String>> = short.iter().collect();
    let are_clear = distinct.len() == targets.len();
    let named = targets.iter().zip(&short).map(|(path, short)| match short {
        Some(short) if are_clear => short.clone(),
        _ => path.display().to_string(),
    });
    named.collect()
}

/// Why the state of a service is not known, a line for each on stderr.
fn report(args: &Args, asked: &[Asked]) {
    for (target, asked) in args.targets.iter().zip(asked) {
        if let Err(error) = asked {
            print_line(PROG, &format!("{}: {error}", target.display()));
        }
    }
}

/// Writes lines to stdout, in one piece.
fn print_lines(lines: &[Line]) -> Result<bool> {
    let text: String = lines.iter().map(|line| line.text.clone() + "\n").collect();
    print_data(&[&text])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn a_service_is_named_after_its_file_unless_two_have_that_name() {
        let names = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/run/a.pid", "b.ctl"]), ["a", "b"]);
        assert_eq!(names(&["/1/a.pid", "/2/a.pid"]), ["/1/a.pid", "/2/a.pid"]);
    }
}
