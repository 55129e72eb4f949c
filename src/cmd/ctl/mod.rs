//! `pf-ctl`: one verb, one request, one exit code.

mod changes;
mod cli;
mod job;
mod leave;
mod ready;
mod signal_fallback;

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::error::{Error, Exit, Result};
use cli::{Cli, Verb, Wait};
use job::Job;

const PROGRAM: &str = "pf-ctl";

/// The command line, for the man page and the completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    match super::arguments::<Cli>() {
        Ok(cli) => super::run(PROGRAM, || run(&cli.verb)),
        Err(exit) => exit,
    }
}

fn run(verb: &Verb) -> Result<Exit> {
    perform(verb).map_err(|error| Error {
        what: format!("{}: {}", verb.name(), error.what),
        ..error
    })
}

fn perform(verb: &Verb) -> Result<Exit> {
    let command = verb.command()?;
    let job = Job::new(verb);
    match (verb, command) {
        (Verb::Stop(stop), Some(command)) if !job.no_wait => leave::stop(&job, command, stop.kill),
        (Verb::Wait(Wait { ready: true, .. }), Some(command)) => ready::wait(&job, command),
        (_, Some(command)) => signal_fallback::signal_beyond_asking(&job, &command)
            .unwrap_or_else(|| job.ask(command)),
        (Verb::Pid(_), None) => leave::pid(&job),
        (_, None) => leave::wait_gone(&job),
    }
}

/// Writes data to stdout. A reader that has gone is as good as one that has read all.
fn data(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::system("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}
