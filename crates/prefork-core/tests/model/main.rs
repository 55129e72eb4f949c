//! Tests of the model alone; no process is started.
//!
//! - `transcripts`: text files of commands and the exact actions that follow.
//! - `lifetimes`: random lives of one supervisor, with invariants after each step.
//! - `two_masters`: random upgrades by fork.
//! - `handover`: what an upgrade in place takes along, written and read.
//! - `pairs`: every phase of a worker with every input.

mod beside;
mod handover;
mod lifetimes;
mod pairs;
mod render;
mod transcripts;
mod two_lives;
mod two_masters;
