//! Snapshot to text.

pub mod listeners;
pub mod plan;
pub mod progress;
pub mod table;
pub mod text;
