//! Everything that the supervisor remembers, as plain data.

pub mod kept;
pub mod operation;
pub mod readiness_memory;
pub mod slots;
