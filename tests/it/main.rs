//! The integration tests: one binary, so that it links once.

mod ctl;
mod drift;
mod model;
mod status;
