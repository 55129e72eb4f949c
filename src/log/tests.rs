//! Tests of the log: rotation, levels, JSON, and sinks that cannot take a line.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::*;

fn to(out: LogWriter, format: Format, verbosity: i8) -> Log {
    let log = Log::new("pf-master", Sink::Stderr, format, verbosity).expect("opened");
    log.out.replace(out);
    log
}

fn pipe() -> (File, File) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    (read.into(), write.into())
}

fn drain(read: &File) -> String {
    rustix::fs::fcntl_setfl(read, rustix::fs::OFlags::NONBLOCK).expect("set");
    let mut bytes = Vec::new();
    let mut read = read;
    let end = read.read_to_end(&mut bytes);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    String::from_utf8(bytes).expect("UTF-8")
}

fn nonblocking(file: &File) -> bool {
    let flags = rustix::fs::fcntl_getfl(file).expect("flags");
    flags.contains(rustix::fs::OFlags::NONBLOCK)
}

#[test]
fn u30_a_rotated_file_is_reopened_and_lines_have_time_and_pid() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.log");
    let log = Log::new("pf-master", Sink::File(path.clone()), Format::Text, 0).expect("opened");
    log.info("one");
    log.debug("not shown");
    fs::rename(&path, dir.path().join("app.log.1")).expect("rotated");
    log.warn("two\nlines \x1b[31m");
    log.reopen().expect("reopened");
    log.error(format_args!("three {}", 3));
    let pid = std::process::id();
    let lines = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(dir.path().join(name)).expect("read");
        let strip = |line: &str| {
            let (time, rest) = line.split_once(' ').expect("a time");
            assert!(
                humantime::parse_rfc3339(time).is_ok() && time.len() == 24,
                "{time}"
            );
            rest.to_owned()
        };
        text.lines().map(strip).collect()
    };
    let old = [
        format!("pf-master[{pid}]: one"),
        format!("pf-master[{pid}]: two lines  [31m"),
    ];
    assert_eq!(lines("app.log.1"), old);
    assert_eq!(lines("app.log"), [format!("pf-master[{pid}]: three 3")]);
    assert_eq!(log.lost(), 0);
}

#[test]
fn a_failed_reopen_continues_in_the_old_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).expect("made");
    let path = logs.join("app.log");
    let log = Log::new("pf-master", Sink::File(path), Format::Text, 0).expect("opened");
    let moved = dir.path().join("moved");
    fs::rename(&logs, &moved).expect("moved");
    let error = log.reopen().expect_err("no directory");
    assert!(
        error.to_string().starts_with("cannot open log file "),
        "{error}"
    );
    log.info("still here");
    let text = fs::read_to_string(moved.join("app.log")).expect("read");
    assert!(text.ends_with("still here\n"));
    let missing = Sink::File(dir.path().join("no/such"));
    assert!(Log::new("pf-master", missing, Format::Text, 0).is_err());
}

#[test]
fn verbosity_decides_which_levels_are_shown() {
    for (verbosity, shown) in [(-2, "e"), (-1, "ew"), (0, "ewi"), (1, "ewid"), (2, "ewid")] {
        let (read, write) = pipe();
        let log = to(LogWriter::Plain(write), Format::Text, verbosity);
        log.error("e");
        log.warn("w");
        log.info("i");
        log.debug("d");
        let expected: String = shown.chars().map(|c| format!("pf-master: {c}\n")).collect();
        assert_eq!(drain(&read), expected);
    }
}

#[test]
fn json_lines_have_their_fields() {
    let (read, write) = pipe();
    let log = to(LogWriter::Plain(write), Format::Json, 0);
    let about = About {
        slot: Some(3),
        worker_pid: Some(42),
        generation: None,
    };
    log.write(Level::Warn, about, "say \"hi\"\n");
    log.info("plain");
    let text = drain(&read);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [first, second] = lines.as_slice() else {
        panic!("{text}");
    };
    let time = first["time"].as_str().expect("a time");
    assert!(humantime::parse_rfc3339(time).is_ok());
    let expected = serde_json::json!({
        "time": time, "level": "warn", "program": "pf-master", "pid": std::process::id(),
        "message": "say \"hi\" ", "slot": 3, "worker_pid": 42,
    });
    assert_eq!(first, &expected);
    assert_eq!(second["level"], "info");
    assert!(second.get("slot").is_none());
}

/// Fills the log until lines are lost, empties the sink, and checks that the loss is reported.
fn assert_loss_is_reported(log: &Log, drain: &mut dyn FnMut() -> String) {
    let long = "x".repeat(1000);
    while log.lost() < 3 {
        log.info(&long);
    }
    let early = drain();
    log.info("through");
    log.info("again");
    let text = early + &drain();
    assert!(
        text.ends_with("pf-master: through (3 lines lost before this)\npf-master: again\n"),
        "{}",
        text.get(text.len().saturating_sub(200)..).unwrap_or(&text)
    );
    let whole = format!("pf-master: {long}");
    let cut = text.lines().filter(|line| *line != whole).count();
    assert!(cut <= 3, "at most one line was cut short: {cut}");
    assert_eq!(log.lost(), 3);
}

#[test]
fn a_full_pipe_reports_lost_lines_and_stays_blocking() {
    let (read, shared) = pipe();
    let out = LogWriter::shared(shared.try_clone().expect("a copy").into()).expect("opened");
    assert!(matches!(&out, LogWriter::Plain(file) if nonblocking(file)));
    let log = to(out, Format::Text, 0);
    assert_loss_is_reported(&log, &mut || drain(&read));
    assert!(!nonblocking(&shared));
}

#[test]
fn after_a_partial_line_the_next_line_begins_anew() {
    let (read, mut shared) = pipe();
    // The lines are longer than what a pipe takes in one piece: two of its sixteen pages each,
    // after this one.
    shared.write_all(&[b'\n'; 4096]).expect("room");
    let out = LogWriter::shared(shared.into()).expect("opened");
    let log = to(out, Format::Json, 0);
    let quotes = "\"".repeat(MAX_MESSAGE);
    while log.lost() == 0 {
        log.info(&quotes);
    }
    assert!(log.cut.get(), "the pipe took a part");
    let early = drain(&read);
    assert!(!early.ends_with('\n'));
    log.info("end");
    let text = early + &drain(&read);
    let last = text.lines().next_back().expect("a line");
    let last: Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(last["message"], "end (1 line lost before this)");
}

#[test]
fn a_pipe_that_cannot_be_reopened_is_polled_first() {
    let (read, write) = pipe();
    let log = to(LogWriter::PolledFirst(write), Format::Text, 0);
    assert_loss_is_reported(&log, &mut || drain(&read));
}

#[test]
fn a_full_socket_does_not_block() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let out = LogWriter::shared(ours.into()).expect("opened");
    assert!(matches!(out, LogWriter::Socket(_)));
    let log = to(out, Format::Text, 0);
    let theirs = File::from(OwnedFd::from(theirs));
    assert_loss_is_reported(&log, &mut || drain(&theirs));
}

#[test]
fn a_closed_reader_and_a_full_disk_lose_lines() {
    let (read, write) = pipe();
    drop(read);
    let log = to(LogWriter::Plain(write), Format::Text, 0);
    log.info("unread");
    assert_eq!(log.lost(), 1);
    let full = Path::new("/dev/full");
    if full.exists() {
        let log = Log::new("pf-master", Sink::File(full.into()), Format::Text, 0).expect("opened");
        log.info("no space");
        assert_eq!(log.lost(), 1);
    }
}

#[test]
fn a_message_is_bounded() {
    let cleaned = clean(&"ü".repeat(MAX_MESSAGE));
    assert_eq!(cleaned.len(), MAX_MESSAGE + 3);
    assert!(cleaned.ends_with("..."));
}
