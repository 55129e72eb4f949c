//! The integration tests: one binary, so that it links once.

mod addresses;
mod ctl;
mod drift;
mod listen;
mod listen_inherit;
mod listen_support;
mod master;
mod model;
mod service;
mod status;
mod unix_paths;
