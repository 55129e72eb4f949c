//! What the tests of whole services share.

pub mod copies;
mod ports;
pub mod service;
mod skip;

use std::time::Duration;

pub use ports::ports;
pub use skip::{skip, unavailable};

/// No step of any test takes longer; what does is a hang, and fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether every test must run in full, also what takes minutes. CI sets the variable to count
/// skipped tests.
pub fn is_thorough() -> bool {
    std::env::var_os("PF_SKIPPED_FILE").is_some()
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether there is a program of this name.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}
