//! How a test says that it could not do its work.

use std::fs::File;
use std::io::Write;

/// Skips the running test, because this machine lacks a program or a right that it could have. If
/// `PF_SKIPPED_FILE` names a file, a line is appended to it for each skipped test.
pub fn skip(why: &str) {
    let line = say("SKIPPED", why);
    if let Some(path) = std::env::var_os("PF_SKIPPED_FILE") {
        let file = File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The running test omits a part that this kernel or container does not support, and that no
/// installation could add.
pub fn unavailable(what: &str) {
    say("UNAVAILABLE", what);
}

fn say(word: &str, text: &str) -> String {
    let thread = std::thread::current();
    let line = format!("{word}: {}: {text}\n", thread.name().unwrap_or("a test"));
    // Not through the test harness, which hides the output of tests that pass.
    let _ = std::io::stderr().write_all(line.as_bytes());
    line
}
