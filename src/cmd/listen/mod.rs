//! `pf-listen`: binds listeners, and becomes the command that serves on them.
//!
//! In reading order:
//!
//! - `cli`: the options (help, man page);
//! - `plain`: the command line without options, read without clap, which is faster;
//! - `prepare`: keeps the inherited listeners, binds the others, and makes the environment;
//! - `port_file`: `--port-file`;
//! - `hold`: `--hold`, runs COMMAND as a child and starts it again.
//!
//! One start: `main` reads the command line. `prepare::prepare` returns the listeners and the
//! environment. `sys::io::fd` places the listeners at fd 3 and up without close-on-exec, and
//! `sys::process::exec` executes COMMAND in this process. With `--hold`, `hold::hold` does this in
//! a child and returns how COMMAND exited.

mod cli;
mod hold;
mod plain;
mod port_file;
mod prepare;

use std::process::ExitCode;

use clap::CommandFactory;

use super::program::{arguments, run};
use crate::error::{Error, Exit, Result};
use crate::sys::io::fd;
use crate::sys::process::exec;
use crate::wire::listen_env::FIRST_FD;
use cli::{Args, PROGRAM};
use hold::HoldExit;

/// The command line, for the man page and the completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs `pf-listen`.
pub fn main() -> ExitCode {
    match plain::read(std::env::args_os()).map_or_else(arguments::<Args>, Ok) {
        Ok(args) => {
            let mut exit = None;
            let failed = run(PROGRAM, || {
                exit = Some(listen(&args)?);
                Ok(Exit::Done)
            });
            exit.map_or(failed, HoldExit::exit_alike)
        }
        Err(exit) => exit,
    }
}

/// Executes COMMAND. Returns only if that fails, or with `--hold` when COMMAND has exited.
fn listen(args: &Args) -> Result<HoldExit> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::usage("no COMMAND"));
    };
    let (listeners, environment) = prepare::prepare(args)?;
    if args.hold {
        let verbosity = i8::from(args.verbose) - i8::from(args.quiet);
        return hold::hold(&args.command, &listeners, environment, verbosity);
    }
    fd::place_for_exec(
        listeners.into_iter().map(|listener| listener.fd).collect(),
        FIRST_FD,
    )?;
    Err(exec::become_program(program, rest, environment))
}
