//! The pure model: a supervisor as a value.
//!
//! No clock, no fd, no pid but as a label, no environment, no printing, no file format.
//! [`Supervisor::step`] takes an [`event::Event`] and the time and returns [`action::Action`]s;
//! [`Supervisor::deadline`] says when to call it next if nothing happens before. It can be run a
//! million steps a second, both orders of any race can be tested, and time is an argument.
//!
//! In reading order:
//!
//! | where | what |
//! | --- | --- |
//! | [`event`], [`action`], [`fact`] | what can happen, what is to be done, what is told |
//! | [`ids`], [`time`], [`signal`], [`policy`] | plain values |
//! | [`exit`], [`operation`], [`backoff`], [`timer`] | more of them |
//! | [`counters`] | totals that never go down |
//! | [`turn`] | one call of `step`: its time, and its actions so far |
//! | [`worker`] | one worker's state machine |
//! | [`readiness_memory`] | what `--ready auto` has learnt |
//! | [`releases`] | the generations that there were, and what can be gone back to |
//! | [`leftover`] | a process that a worker left behind outside its group |
//! | [`state`] | everything that the supervisor remembers, how it is shown and handed over |
//! | [`supervisor`] | `step`, `settle`, and the decisions about slots, scale, stop, exits |
//! | [`rollout`] | from one generation to the next, forward and back |
//! | [`fork`], [`peer`] | two masters during an upgrade by fork |
//! | [`machines`] | small machines beside it, of `pf-accept` and `pf-listen --hold` among others |
#![deny(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod backoff;
pub mod counters;
pub mod event;
pub mod exit;
pub mod fact;
pub mod fork;
pub mod ids;
pub mod leftover;
pub mod machines;
pub mod operation;
pub mod peer;
pub mod policy;
pub mod readiness_memory;
pub mod releases;
pub mod rollout;
pub mod signal;
pub mod state;
pub mod supervisor;
pub mod time;
pub mod timer;
pub mod turn;
pub mod worker;

pub use state::Supervisor;
