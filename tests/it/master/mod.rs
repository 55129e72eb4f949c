//! `pf-master` with real processes: the whole contract, seen from outside.

mod bad_release;
mod descriptors;
mod environment;
mod readiness;
mod releases;
mod signals;
mod start;
mod terminal;
