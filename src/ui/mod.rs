//! Snapshot to text.

pub mod table;
pub mod text;
