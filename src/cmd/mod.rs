//! The programs: one file or folder for each binary, with its command line (`Args`) and its `main`.
//!
//! In reading order:
//!
//! - `program`: what all binaries share: read the command line, run, print the one line of an
//!   error;
//! - `hand_on`: the environment in which listeners are handed on to the next program;
//! - `values`: the values of options that several binaries have: durations, `off`, protocols;
//! - [`listen`]: `pf-listen` binds listeners and becomes the next program;
//! - [`master`]: `pf-master`, from the command line to the values that [`driver`](crate::driver)
//!   runs;
//! - [`accept`]: `pf-accept` runs a program once for each connection;
//! - [`ctl`]: `pf-ctl` sends one request to a master;
//! - [`status`]: `pf-status` shows what a master reports.
//!
//! One start: `src/bin/NAME.rs` calls `main` of the folder NAME; `program::arguments` parses the
//! command line, or prints help, the version or a usage error; `program::run` calls the body and
//! turns its [`Error`](crate::error::Error) into a line on stderr and an exit code.
//!
//! The doc comments of the `Args` structs are the help texts. Man pages and completions are
//! generated from them (`tests/it/drift.rs`).

pub mod accept;
pub mod ctl;
mod hand_on;
pub mod listen;
pub mod master;
mod program;
pub mod status;
mod values;
