//! What holds for any input of the parsers in `wire`, one function for each target of `fuzz/`.
//!
//! A fuzzer calls these functions with inputs that it makes (`fuzz/fuzz_targets`), and the test
//! beside this module with the inputs that are kept (`fuzz/corpus`). A function that returns says
//! that all properties hold; a panic is a finding.

mod control;
mod listeners;
mod masters;
mod system;
mod worker;

/// One target.
pub type Target = fn(&[u8]);

/// All targets: the name of the file in `fuzz/fuzz_targets` and of the folder in `fuzz/corpus`.
pub const ALL: [(&str, Target); 14] = [
    ("address", listeners::address),
    ("control_reply", control::reply),
    ("control_request", control::request),
    ("einhorn", worker::einhorn),
    ("environment", system::environment),
    ("exports", listeners::exports),
    ("handover", masters::handover),
    ("heartbeat", worker::heartbeat),
    ("listen_env", listeners::listen_env),
    ("maps", system::maps),
    ("notify", worker::notify),
    ("peer", masters::peer),
    ("service_manager", worker::service_manager),
    ("services", system::services),
];

/// Runs the target of this name.
///
/// # Panics
/// There is no such target, or a property does not hold.
pub fn run(name: &str, input: &[u8]) {
    let found = ALL.iter().find(|(known, _)| *known == name);
    let (_, target) = found.expect("a target's name");
    target(input);
}

/// An error and a rendered line are shown on terminals and stand in logs: one line, without a
/// control character.
#[track_caller]
fn assert_one_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}
