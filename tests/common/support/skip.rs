//! How a test says that it could not do its work.

use std::fs::File;
use std::io::Write;

/// The running test cannot do its work here, for want of a program or of a right that this machine could give it. Whoever wants
/// none to be skipped names a file in `PF_SKIPPED_FILE` and finds a line there for each.
pub fn skip(why: &str) {
    let line = say("SKIPPED", why);
    if let Some(path) = std::env::var_os("PF_SKIPPED_FILE") {
        let file = File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// The running test leaves something out that this kernel, or the box it stands in, does not have: nothing that could be installed.
pub fn unavailable(what: &str) {
    say("UNAVAILABLE", what);
}

fn say(word: &str, text: &str) -> String {
    let thread = std::thread::current();
    let line = format!("{word}: {}: {text}\n", thread.name().unwrap_or("a test"));
    // Past the harness, which keeps to itself what passing tests print.
    let _ = std::io::stderr().write_all(line.as_bytes());
    line
}
