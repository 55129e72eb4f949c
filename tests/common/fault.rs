//! System calls that fail, by strace: in a process that runs, or in all that a command starts.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use super::service::{process, until};
use super::support::{is_there, skip};

/// Whether there is strace; says if not.
pub(crate) fn possible() -> bool {
    let there = is_there("strace");
    if !there {
        skip("there is no strace here");
    }
    there
}

/// The options that let these calls (`a,b`) fail; `how` as in strace(1): `error=EMFILE:when=3`.
pub(crate) fn injection(calls: &str, how: &str) -> [String; 2] {
    [
        format!("--trace={calls}"),
        format!("--inject={calls}:{how}"),
    ]
}

/// What makes these calls fail in the program that follows and in everything that this one starts.
/// The program is the child that is started, not strace.
pub(crate) fn wrapper(calls: &str, error: &str) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-D", "-f", "-q", "-o", "/dev/null"]
        .map(str::to_owned)
        .into();
    words.extend(injection(calls, &format!("error={error}")));
    words
}

/// A call that fails in a process that runs, also in its next images, until this is dropped.
pub(crate) struct Fault(Child);

impl Fault {
    /// None where tracing is not permitted.
    pub(crate) fn begin(pid: i32, calls: &str, how: &str) -> Option<Fault> {
        let child = Command::new("strace")
            .args(["-q", "-o", "/dev/null"])
            .args(injection(calls, how))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace");
        let mut fault = Fault(child);
        let tracer = fault.0.id().to_string();
        until("it is attached, or refused", || {
            if process::status(pid, "TracerPid") == tracer {
                return Some(true);
            }
            fault.0.try_wait().expect("our own").map(|_| false)
        })
        .then_some(fault)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It detaches, and leaves what it has traced as it was.
            process::signal(pid, Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}
