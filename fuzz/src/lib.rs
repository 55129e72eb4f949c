//! The targets, which the test `fuzz` of `prefork-core` has too.

#[path = "../../crates/prefork-core/tests/fuzz/targets/mod.rs"]
pub mod targets;
