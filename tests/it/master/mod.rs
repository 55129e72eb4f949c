//! `pf-master` with real processes: the whole contract, seen from outside.

mod bad_release;
mod collisions;
mod crash;
mod descriptors;
mod drain;
mod environment;
mod hardship;
mod names;
mod protocol;
mod readiness;
mod releases;
mod rollout;
mod signals;
mod start;
pub(crate) mod terminal;
mod usage;
