//! What the tests of whole services share.

mod anybody;
pub mod service;
mod skip;
pub mod worker;

use std::time::Duration;

pub use anybody::ForAnybody;
pub use skip::{skip, unavailable};

/// No step of any test takes longer; what does is a hang, and fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
