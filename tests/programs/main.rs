//! The programs beside `pf-master`, the worker library, and what a client of each sees.

#[path = "../common/mod.rs"]
mod common;

mod accept;
mod addresses;
mod ctl;
mod exports;
mod hold;
mod listen;
mod listen_inherit;
mod reporter;
mod status;
mod unix_paths;
mod worker;
