//! The pure part of `prefork`: what pf-tools decides, and what it says to other programs.
//!
//! Nothing here makes a system call, reads a clock or an environment, or prints. Use it through the
//! package `pf-tools`, whose library `prefork` re-exports both modules: this crate is a crate of
//! its own so that it compiles and is tested alone, in seconds.
//!
//! - [`model`]: events in, actions out: the supervisor and the three smaller machines.
//! - [`wire`]: total parsers and their inverses: addresses, `LISTEN_*`, control messages,
//!   hand-over.

pub mod model;
pub mod wire;
