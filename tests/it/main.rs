//! The integration tests: one binary, so that it links once.

mod addresses;
mod listen;
mod listen_inherit;
mod listen_support;
mod unix_paths;
