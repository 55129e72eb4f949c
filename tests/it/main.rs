//! The integration tests: one binary, so that it links once.

mod accept;
mod addresses;
mod ctl;
mod death;
mod drift;
mod exports;
mod fork;
mod hold;
mod layering;
mod listen;
mod listen_inherit;
mod listen_support;
mod load;
mod loss;
mod managers;
mod master;
mod readme;
mod recipes;
mod service;
mod status;
mod support;
mod unix_paths;
mod upgrade;
mod worker;
