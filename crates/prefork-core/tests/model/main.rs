//! Tests of the model alone; no process is started.
//!
//! - `transcripts`: text files of commands and the exact actions that follow.
//! - `lifetimes`: random lives of one supervisor, with invariants after each step.
//! - `explorer`: all orders of events for two slots.
//! - `two_masters`: random upgrades by fork.
//! - `golden`: states that this version has written, for later versions to read.
//! - `handover`: what an upgrade in place takes along, written and read.
//! - `told`: what those who follow events are told in such lives.
//! - `totals`: what is counted, through deaths and both upgrades.
//! - `pairs`: every phase of a worker with every input.

mod beside;
mod explorer;
mod golden;
mod handover;
mod lifetimes;
mod pairs;
mod render;
mod told;
mod totals;
mod transcripts;
mod two_lives;
mod two_masters;
