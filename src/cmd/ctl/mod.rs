//! `pf-ctl`: one verb, one request to a master, one exit code.
//!
//! In reading order:
//!
//! - `cli`: the verbs and their options (help, man page), and the `Command` that each verb sends;
//!   `changes`: what `reload` may change, options and a new command after `--`;
//! - `job`: `Job`, one run of `pf-ctl`: target, deadline, progress on stderr; sends a request,
//!   and turns the reply into data on stdout and an exit code;
//! - `ask`: what most verbs do;
//! - `process`: `stop`, `wait --gone` and `pid`, which need the master's process;
//! - `ready`: `wait --ready`, which also waits for a master that is not there yet;
//! - `fds`: `add-fds` and `take-fds`, which pass listeners;
//! - `events`: `events`, which goes on with the next master when one leaves the service to another;
//! - `drill`: `drill`, which makes load while it makes requests;
//! - `signal_fallback`: signals, for a master that has no control socket, and KILL, STOP, CONT;
//! - `suggestions`: what a word that is no verb may mean;
//! - `output`: data on stdout.
//!
//! One request: `Verb::command` reads the operands. `Target::reach` connects. `Job::exchange` sends
//! the request and shows each progress line until the reply. `Job::conclude` prints the reply. A
//! master without a control socket gets the signal that means the same (`signal_fallback::send`).

mod ask;
mod changes;
mod cli;
mod drill;
mod events;
mod fds;
mod job;
mod output;
mod process;
mod ready;
mod signal_fallback;
mod suggestions;

use std::process::ExitCode;

use clap::CommandFactory;

use super::program;
use crate::error::{Error, Exit, Result};
use cli::{Cli, Verb, Wait};
use job::Job;
use output::PROGRAM;

/// The command line, for the man page and the completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs `pf-ctl`.
pub fn main() -> ExitCode {
    match program::arguments_with_tip::<Cli>(suggestions::tip) {
        Ok(cli) => program::run(PROGRAM, || run(&cli.verb)),
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
    // Before this process opens any descriptor.
    let given = match verb {
        Verb::AddFds(_) => fds::inherit()?,
        _ => Vec::new(),
    };
    let job = Job::new(verb)?;
    match (verb, command) {
        (Verb::Stop(stop), Some(command)) if !job.no_wait => {
            process::stop(&job, command, stop.kill)
        }
        (
            Verb::Wait(Wait {
                ready: true,
                appear,
                ..
            }),
            Some(command),
        ) => ready::wait(&job, *appear, command),
        (Verb::Drill(drill), _) => drill::run(&job, drill),
        (Verb::Events(follow), _) => events::follow(&job, follow.since),
        (Verb::AddFds(_), _) => fds::add(&job, &given),
        (Verb::TakeFds(take), _) => fds::take(&job, take),
        (_, Some(command)) => signal_fallback::send_unanswerable(&job, &command)
            .unwrap_or_else(|| ask::ask(&job, command)),
        (Verb::Pid(_), None) => process::pid(&job),
        (_, None) => process::wait_gone(&job),
    }
}
