//! What the tests of whole services share.

pub mod service;
pub mod worker;

use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// No step of any test takes longer; what does is a hang, and fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Says that the running test cannot do its work here, and why. Whoever wants none to be skipped names a file in
/// `PF_SKIPPED_FILE` and finds a line there for each.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: {}: {why}\n", thread.name().unwrap_or("a test"));
    // Past the harness, which keeps to itself what passing tests print.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("PF_SKIPPED_FILE") {
        let file = File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
