//! The pure model.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod sig;
pub mod time;
