//! `pf-ctl events`, and the control command behind it.

mod churn;
mod ends;
mod order;
mod two_masters;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::common::service::{Ended, Master, Scene, end_of, until};

/// A `pf-ctl events` that runs, with its output in a file, and its errors in another one.
struct Followed {
    child: Child,
    out: PathBuf,
}

impl Followed {
    /// Follows from this event on; 0: from the first.
    fn since(scene: &Scene, since: u64) -> Followed {
        Followed::with(scene, &["--since", &since.to_string()])
    }

    fn with(scene: &Scene, options: &[&str]) -> Followed {
        let out = (1..)
            .map(|number| scene.path(&format!("events{number}.out")))
            .find(|out| !out.exists())
            .expect("a free name");
        let child = command(&scene.path("app.pid"), options)
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(out.with_extension("err")).expect("a file"))
            .spawn()
            .expect("pf-ctl starts");
        Followed { child, out }
    }

    /// What it has told so far.
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).expect("UTF-8");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Waits until it has told an event that fulfils the condition; all that it has told by then.
    #[track_caller]
    fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Vec<Value> {
        until(what, || {
            let events = self.events();
            events.iter().any(&so).then_some(events)
        })
    }

    /// Waits for its end: the exit code, and all that it has told.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, Vec<Value>) {
        let code = end_of(&mut self.child, "pf-ctl events").code();
        (code, self.events())
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(target: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    command
        .arg("events")
        .arg(target)
        .args(options)
        .stdin(Stdio::null());
    command
}

/// Each event has the next number, and a time.
#[track_caller]
fn assert_gapless(events: &[Value]) {
    for (event, next) in events.iter().zip(events.iter().skip(1)) {
        let number = |event: &Value| event["seq"].as_u64().expect("a number");
        assert_eq!(number(next), number(event) + 1, "{event} {next}");
    }
    for event in events {
        let at = event["at"].as_str().expect("a time");
        assert!(at.ends_with('Z') && at.contains('T'), "{event}");
        assert_ne!(event["event"], "missed", "{event}");
        assert_ne!(event["event"], "following", "{event}");
    }
}

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect()
}

fn is(event: &Value, name: &str) -> bool {
    event["event"] == name
}

/// A service of workers that are ready as soon as they are executed, and end when they are told.
#[track_caller]
fn small(scene: &Scene, workers: usize) -> Master {
    let options = format!("-n {workers} --ready exec --backoff 1ms..2ms");
    scene.master(&options).command(["sleep", "1000"]).start()
}

/// Runs `pf-ctl VERB TARGET OPERAND...`, whichever process is the master now.
fn ctl(scene: &Scene, line: &str) -> Ended {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    command
        .arg(verb)
        .arg(scene.path("app.pid"))
        .args(rest.split_whitespace());
    output(&mut command)
}

fn output(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output();
    Ended::of(&output.expect("it starts"))
}
