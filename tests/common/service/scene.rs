//! The directory of a test, with the worker program and the fifo through which workers report.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use super::master::Launch;
use super::{HANG, until};

/// The shell functions at the start of every script.
///
/// `say TEXT` reports TEXT with slot, generation and pid. `play STEPS` becomes this test binary
/// (see `scripted_worker`, which only the binary `master` has). `helper STEPS` runs the steps in a
/// child. `up` reports readiness on fd 9, if it is open. `rest` becomes a `sleep` that waits for a
/// signal.
const PRELUDE: &str = r#"#!/bin/sh
say() { echo "$* $PF_WORKER $PF_GENERATION $$" >"$PF_TEST_SAY"; }
role="--exact scripted_worker::play --nocapture --test-threads=1"
helper() { PF_TEST_PLAY="$1" "$PF_TEST_EXE" $role >/dev/null; }
play() { PF_TEST_PLAY="$1" exec "$PF_TEST_EXE" $role >/dev/null; }
up() { echo >&9; exec 9>&-; }
rest() { exec sleep 1000; }
"#;

/// A worker that is ready by fd 9 and does nothing, which is what most tests need.
pub(crate) const RESTING: &str = "say up; up; rest";

/// A worker that reports `up`, and becomes ready once the test has opened the door of its slot.
pub(crate) const GATED: &str = r#"say up; read x <"$PF_TEST_DOOR$PF_WORKER"; up; rest"#;

/// How many slots have doors.
const DOORS: u32 = 5;

/// What a worker has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) text: String,
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) pid: i32,
}

/// A directory to play in.
pub(crate) struct Scene {
    dir: TempDir,
    reports: RefCell<Reports>,
}

struct Reports {
    fifo: File,
    unread: Vec<u8>,
    heard: Vec<Report>,
}

impl Scene {
    /// An empty one, whose workers rest.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("say");
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o622)).expect("a fifo");
        // Open for writing too, so that it never ends.
        let fifo = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)
            .expect("the fifo");
        let scene = Scene {
            dir,
            reports: RefCell::new(Reports {
                fifo,
                unread: Vec::new(),
                heard: Vec::new(),
            }),
        };
        scene.app(RESTING);
        for slot in 0..DOORS {
            nix::unistd::mkfifo(&scene.door(slot), Mode::S_IRWXU).expect("a fifo");
        }
        scene
    }

    fn door(&self, slot: u32) -> PathBuf {
        self.path(&format!("door{slot}"))
    }

    /// Lets the worker of this slot continue that waits at its door now, or will in a moment.
    #[track_caller]
    pub(crate) fn open_door(&self, slot: u32) {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(nix::libc::O_NONBLOCK);
        // Without a reader it cannot be opened; once it was, the reader finds its end.
        until(&format!("a worker waits at door {slot}"), || {
            options.open(self.door(slot)).ok()
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Writes the worker program; the next worker that starts is of it.
    pub(crate) fn app(&self, body: &str) {
        self.script("app", body);
    }

    /// Writes a program, whole or not at all.
    ///
    /// A shell writes it. A descriptor that this process has open for writing could be inherited by
    /// a child that another test forks, and a file open for writing cannot be executed (ETXTBSY).
    pub(crate) fn script(&self, name: &str, body: &str) {
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"cat >"$1.new" && chmod 755 "$1.new" && mv "$1.new" "$1""#,
                "sh",
            ])
            .arg(self.path(name))
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut pipe = child.stdin.take().expect("piped");
        pipe.write_all(PRELUDE.as_bytes()).expect("written");
        pipe.write_all(body.as_bytes()).expect("written");
        pipe.write_all(b"\n").expect("written");
        drop(pipe);
        assert!(child.wait().expect("sh").success(), "{name} is written");
    }

    /// A `pf-master` with these options (split at blanks); to be completed and started.
    pub(crate) fn master(&self, options: &str) -> Launch<'_> {
        Launch::new(self, options)
    }

    /// The next unread report with this text; waits for it.
    #[track_caller]
    pub(crate) fn report(&self, text: &str) -> Report {
        let mut reports = self.reports.borrow_mut();
        loop {
            if let Some(place) = reports.heard.iter().position(|report| report.text == text) {
                return reports.heard.remove(place);
            }
            let heard = reports.read(HANG);
            assert!(
                heard,
                "no worker says '{text}'; heard instead: {:?}; log:\n{}",
                reports.heard,
                self.text("err")
            );
        }
    }

    /// The next `count` reports of these words, ordered by slot.
    #[track_caller]
    pub(crate) fn reports(&self, text: &str, count: usize) -> Vec<Report> {
        let mut all: Vec<Report> = (0..count).map(|_| self.report(text)).collect();
        all.sort_by_key(|report| report.slot);
        all
    }

    /// Takes all unread reports.
    pub(crate) fn unread_reports(&self) -> Vec<Report> {
        let mut reports = self.reports.borrow_mut();
        while reports.read(std::time::Duration::ZERO) {}
        std::mem::take(&mut reports.heard)
    }
}

impl Reports {
    /// Reads what is there, waiting for it; false if nothing came.
    fn read(&mut self, patience: std::time::Duration) -> bool {
        let patience = Timespec::try_from(patience).expect("short");
        let ready = loop {
            // Another test of this process may have handlers.
            match poll(
                &mut [PollFd::new(&self.fifo, PollFlags::IN)],
                Some(&patience),
            ) {
                Err(rustix::io::Errno::INTR) => {}
                ready => break ready.expect("poll"),
            }
        };
        if ready == 0 {
            return false;
        }
        let mut chunk = [0; 4096];
        let count = self.fifo.read(&mut chunk).expect("the fifo");
        self.unread.extend_from_slice(&chunk[..count]);
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8(line).expect("UTF-8");
            self.heard.push(parse(line.trim_end()));
        }
        true
    }
}

fn parse(line: &str) -> Report {
    let mut parts = line.rsplitn(4, ' ');
    let mut number = || {
        parts
            .next()
            .and_then(|part| part.parse::<i64>().ok())
            .unwrap_or(-1)
    };
    let (pid, generation, slot) = (number(), number(), number());
    Report {
        text: parts.next().unwrap_or_default().to_owned(),
        slot: u32::try_from(slot).unwrap_or(u32::MAX),
        generation: u64::try_from(generation).unwrap_or(0),
        pid: i32::try_from(pid).unwrap_or(0),
    }
}
