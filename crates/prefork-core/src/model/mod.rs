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
//! | [`event`], [`action`], [`fact`] | the vocabulary: what can happen, what is to be done, what is told |
//! | [`ids`], [`time`], [`signal`], [`policy`], [`exit`], [`operation`] | plain values |
//! | [`worker`] | one worker's state machine |
//! | [`state`] | everything that the supervisor remembers |
//! | [`supervisor`] | `step`, `settle`, and the decisions about slots, scale, stop, exits |
//! | [`rollout`] | from one generation to the next, forward and back |
//! | [`fork`], [`peer`] | two masters during an upgrade by fork |
//! | [`handover`] | what an upgrade in place takes along |
//! | [`acceptor`], [`holder`], [`service_manager`] | three other machines: of `pf-accept`, of `pf-listen --hold`, and of what a service manager above the master is told |
#![deny(clippy::wildcard_enum_match_arm)]

pub mod acceptor;
pub mod action;
pub mod backoff;
pub mod event;
pub mod exit;
pub mod fact;
pub mod fork;
pub mod handover;
pub mod holder;
pub mod ids;
pub mod log_throttle;
pub mod operation;
pub mod peer;
pub mod policy;
pub mod readiness_memory;
pub mod rollout;
pub mod service_manager;
pub mod signal;
pub mod snapshot;
pub mod state;
pub mod supervisor;
pub mod text;
pub mod time;
pub mod timer;
pub mod turn;
pub mod worker;

pub use state::Supervisor;
