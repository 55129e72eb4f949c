//! `pf-master` with real processes: the whole contract, seen from outside.

mod descriptors;
mod environment;
mod signals;
mod start;
mod terminal;
