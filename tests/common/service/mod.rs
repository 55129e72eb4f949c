//! A service for tests: a directory, a worker program, a real `pf-master`, real clients.
//!
//! A [`Scene`] is the directory. The worker program `app` is a shell script in it, which a test may
//! rewrite at any time. Workers report through a fifo. A [`Master`] is a `pf-master` in that scene.
//! Nothing here waits longer than [`HANG`]. Dropping a `Master` kills all that it started, so that
//! a failing test leaves no process behind.

pub(crate) mod control;
pub(crate) mod master;
pub(crate) mod process;
pub(crate) mod scene;
pub(crate) mod scene_processes;

pub(crate) use control::Control;
pub(crate) use master::Master;
pub(crate) use scene::Scene;

use std::ffi::OsStr;
use std::process::{Child, ExitStatus, Output};
use std::time::Duration;

use prefork::sys::machine::clock;

/// No step of any test takes longer; what does is a hang, and fails.
pub(crate) const HANG: Duration = crate::common::support::PATIENCE;

/// Tests of anything else than the canary do without one: it would make each of their reloads take
/// a second more. A test that names the option has what it says.
pub(crate) fn canary_unless_named<S: AsRef<OsStr>>(options: &[S]) -> &'static [&'static str] {
    let is_named = |option: &S| option.as_ref() == "--canary";
    if options.iter().any(is_named) {
        &[]
    } else {
        &["--canary", "off"]
    }
}

/// Looks again and again until there is something to be seen; fails after [`HANG`].
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + HANG;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(clock::now() < deadline, "this never happened: {what}");
        clock::pause(Duration::from_millis(4));
    }
}

/// Waits for the end of a child.
#[track_caller]
pub(crate) fn end_of(child: &mut Child, what: &str) -> ExitStatus {
    until(&format!("the end of {what}"), || {
        child.try_wait().expect("our own child")
    })
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// It went well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It failed with this code, and one line on stderr that has all of `parts` in it.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        for part in parts {
            assert!(last.contains(part), "'{part}' in the last line of {self:?}");
        }
        self
    }
}
