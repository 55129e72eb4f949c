//! The only system calls. Everything here is small, returns what the system said, and decides nothing.

pub mod control;
pub mod files;
pub mod heartbeat;
pub mod io;
pub mod listener;
pub mod machine;
pub mod notify;
pub mod process;
pub mod signal;
#[cfg(test)]
pub(crate) mod testing;
mod unwind;
