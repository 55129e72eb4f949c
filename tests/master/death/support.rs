//! Helpers beyond a service: workers that act by steps, and parts of the status document.

use std::path::Path;

use serde_json::Value;

use crate::common::service::Scene;

/// The shell function by which a script becomes this test binary (see `acting_worker`).
const ACT: &str = r#"act() {
    PF_TEST_ACT="$1" exec "$PF_TEST_EXE" --exact death::acting_worker::act \
        --nocapture --test-threads=1 >/dev/null
}"#;

/// Writes a scene's worker program, which may `act STEPS`.
pub(crate) fn app(scene: &Scene, body: &str) {
    scene.app(&format!("{ACT}\n{body}"));
}

/// A slot of the status document.
#[track_caller]
pub(crate) fn slot(status: &Value, number: usize) -> &Value {
    let slot = &status["slots"][number];
    assert!(slot.is_object(), "slot {number} in {status:#}");
    slot
}

/// How the slot's previous process ended.
pub(crate) fn cause(status: &Value, number: usize) -> Option<String> {
    let cause = &status["slots"][number]["last_exit"]["cause"];
    cause.as_str().map(str::to_owned)
}

/// How often the slot's process died by itself.
#[track_caller]
pub(crate) fn restarts(status: &Value, number: usize) -> u64 {
    slot(status, number)["restarts"].as_u64().expect("a number")
}

/// The lines of a file that workers append to.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
