//! The heartbeat page, seen from both sides.

pub mod file;
pub mod page;
