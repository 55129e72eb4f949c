//! Snapshot to text.
