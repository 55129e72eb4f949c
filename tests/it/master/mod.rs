//! `pf-master` with real processes: the whole contract, seen from outside.

mod descriptors;
mod environment;
mod start;
