//! One file a binary: its command line and what it does.

pub mod ctl;
pub mod listen;
pub mod master;
pub mod status;
