//! What the tests of whole services share.

mod anybody;
mod ports;
pub mod service;
mod skip;
pub mod worker;

use std::time::Duration;

pub use anybody::{ForAnybody, copied, executable};
pub use ports::ports;
pub use skip::{skip, unavailable};

/// No step of any test takes longer; what does is a hang, and fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether nothing may be left out, as with CI, which counts the tests that skip: what takes minutes is then done in full.
pub fn is_thorough() -> bool {
    std::env::var_os("PF_SKIPPED_FILE").is_some()
}
