//! The pure model: a supervisor as a value.
//!
//! No clock, no fd, no pid but as a label, no environment, no printing. [`Supervisor::step`] takes
//! an [`event::Event`] and the time and returns [`event::Action`]s; [`Supervisor::deadline`] says
//! when to call it next if nothing happens before. It can be run a million steps a second, both
//! orders of any race can be tested, and time is an argument.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod acceptor;
pub mod backoff;
pub mod event;
pub mod fork;
pub mod holder;
pub mod log_throttle;
pub mod policy;
pub mod rollout;
pub mod service_manager;
pub mod signal;
pub mod state;
pub mod supervisor;
pub mod time;
pub mod timer;
pub mod worker;

pub use supervisor::Supervisor;
