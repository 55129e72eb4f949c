//! `pf-master` with real processes: the whole contract, seen from outside.

mod bad_release;
mod changes;
mod collisions;
mod crash;
mod daemonize;
mod descriptors;
mod drain;
mod environment;
mod hardship;
mod names;
mod probation;
mod protocol;
mod readiness;
mod releases;
mod rollout;
mod signals;
mod start;
pub(crate) mod terminal;
mod units;
pub(crate) mod upward;
mod usage;
