//! The pure model: a supervisor as a value.
//!
//! No clock, no fd, no pid but as a label, no environment, no printing. [`Supervisor::step`] takes an [`event::Event`] and the time and
//! returns [`event::Action`]s; [`Supervisor::deadline`] says when to call it next though nothing happened. It can be run a million steps a second,
//! both orders of any race can be tested, and time is an argument.
#![deny(clippy::wildcard_enum_match_arm)]

mod back;
mod clockwork;
mod command;
mod dance;
mod death;
mod drain;
mod ending;
mod forward;
mod kept;
mod let_go;
mod pinning;
mod probation;
mod restart;
mod scale;
mod side_by_side;
mod slot;
mod stop;

pub mod accepting;
pub mod backoff;
pub mod beside;
pub mod event;
pub mod heartbeat;
pub mod hold;
pub mod memory;
pub mod operation;
pub mod policy;
pub mod repeated;
pub mod rollout;
pub mod sig;
pub mod snapshot;
pub mod supervisor;
pub mod time;
pub mod timer;
pub mod upward;
pub mod worker;

pub use supervisor::Supervisor;
