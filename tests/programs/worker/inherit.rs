//! Listeners and heartbeat as a process inherits them. This test program plays the process, and
//! reports what it found.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use prefork::sys::heartbeat::file::HeartbeatFile;
use prefork::sys::io::fd;
use prefork::sys::machine::environment;
use prefork::{Heartbeat, Listeners, notify};
use serde_json::{Value, json};

const ROLE: &str = "worker::inherit::report";
const MARK: &str = "REPORT ";

/// The command line of the role.
fn role() -> Vec<String> {
    let program = std::env::current_exe().expect("the test program's path");
    let program = program.to_string_lossy().into_owned();
    let words = ["--exact", ROLE, "--nocapture", "--test-threads=1"];
    std::iter::once(program)
        .chain(words.map(str::to_owned))
        .collect()
}

#[test]
fn report() {
    if !std::env::args().any(|arg| arg == ROLE) {
        return;
    }
    let threads = environment::threads();
    let found = Listeners::inherit();
    let heartbeat = Heartbeat::inherit();
    if let Ok(heartbeat) = &heartbeat {
        drop((heartbeat.request(), heartbeat.connection()));
    }
    let variables: Vec<String> = std::env::vars()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("LISTEN_") || name.starts_with("PF_HEARTBEAT"))
        .collect();
    let told = found.as_ref().map(|found| {
        found.as_ref().map(|listeners| {
            let one = |listener: &prefork::sys::listener::Listener| {
                let survives = fd::survives_exec(listener.as_fd().as_raw_fd());
                json!([listener.label(), listener.address.to_string(), survives])
            };
            listeners.iter().map(one).collect::<Vec<Value>>()
        })
    });
    let again = Listeners::inherit().map(|found| found.is_some());
    let bound = Listeners::inherit_or_bind(["127.0.0.1:0"]).map(|bound| bound.len());
    let report = json!({
        "threads": threads,
        "listeners": told.map_err(|error| error.to_string()),
        "again": again.map_err(|error| error.to_string()),
        "bound": bound.map_err(|error| error.to_string()),
        "heartbeat": heartbeat.as_ref().map(|it| it.is_active()).map_err(|error| error.to_string()),
        "same": Heartbeat::inherit().map(|it| it.counts().beats).map_err(|error| error.to_string()),
        "variables": variables,
        "ready": notify::ready().map_err(|error| error.to_string()),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{MARK}{report}").expect("a reader");
}

fn reported(mut command: Command) -> Value {
    command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let output = command.output().expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix(MARK));
    let line = line.unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(line).expect("JSON")
}

fn pf_listen(addresses: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-listen"));
    command.args(addresses).arg("--");
    command
}

#[test]
fn g1_inherited_listeners_are_taken_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = format!("admin={}/sock", dir.path().display());
    let mut command = pf_listen(&["web=tcp:127.0.0.1:0", &path, "tcp:127.0.0.1:0"]);
    command.args(role());
    let report = reported(command);
    let listeners = report["listeners"]["Ok"].as_array().expect("listeners");
    let names: Vec<&str> = listeners.iter().filter_map(|one| one[0].as_str()).collect();
    assert_eq!(names.len(), 3, "{report}");
    assert_eq!(names[..2], ["web", "admin"]);
    assert!(names[2].starts_with("tcp:127.0.0.1:"));
    for listener in listeners {
        assert_eq!(listener[2], false, "close-on-exec: {report}");
    }
    assert_eq!(report["again"]["Ok"], false);
    // Alone in its process, it could remove them; with other threads it must not try.
    let expected: &[&str] = if report["threads"] == 1 {
        &[]
    } else {
        &["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID"]
    };
    let mut left: Vec<&str> = report["variables"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    left.sort_unstable();
    assert_eq!(left, expected, "{report}");
    assert_eq!(
        (&report["heartbeat"]["Ok"], &report["ready"]["Ok"]),
        (&json!(false), &json!(false))
    );
}

#[test]
fn g1_without_own_inherited_listeners_new_ones_are_bound() {
    let mut alone = Command::new(&role()[0]);
    alone.args(&role()[1..]);
    let mut behind_a_shell = pf_listen(&["tcp:127.0.0.1:0"]);
    behind_a_shell
        .args(["sh", "-c", "\"$@\"; exit", "sh"])
        .args(role());
    for command in [alone, behind_a_shell] {
        let report = reported(command);
        assert_eq!(report["listeners"]["Ok"], Value::Null, "{report}");
        assert_eq!(report["bound"]["Ok"], 1, "{report}");
    }
}

#[test]
fn g1_a_bad_count_or_descriptor_is_an_error() {
    for (count, part) in [
        ("x", "LISTEN_FDS is malformed: 'x'"),
        ("2", "it is not a socket"),
    ] {
        let mut command = Command::new("sh");
        let line = format!("exec 3<&0 4<&0; LISTEN_FDS={count} LISTEN_PID=$$ exec \"$@\"");
        command.args(["-c", &line, "sh"]).args(role());
        let report = reported(command);
        let error = report["listeners"]["Err"].as_str().unwrap_or_default();
        assert!(error.contains(part), "{report}");
    }
}

#[test]
fn u23_the_heartbeat_page_is_taken_over() {
    let mut beat = HeartbeatFile::create().expect("made");
    let copy = beat.fd().try_clone_to_owned().expect("copied");
    let mut command = Command::new("sh");
    // Dash knows numbers of one digit only.
    command.args([
        "-c",
        "exec 7<>/proc/self/fd/0; PF_HEARTBEAT_FD=7 exec \"$@\"",
        "sh",
    ]);
    command.args(role()).stdin(Stdio::from(copy));
    let output = command.output().expect("started");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"heartbeat\":{\"Ok\":true}"), "{said}");
    // The same page at each call.
    assert!(said.contains("\"same\":{\"Ok\":2}"), "{said}");
    assert!(beat.check_for_beat().expect("looked"));
    let page = beat.page();
    assert_eq!(
        (page.beats, page.begun, page.finished, page.open),
        (2, 1, 1, 0)
    );
}

#[test]
fn u23_a_wrong_heartbeat_descriptor_is_an_error() {
    for (value, part) in [
        ("x", "cannot use PF_HEARTBEAT_FD=x: it is not a number"),
        ("0", "PF_HEARTBEAT_FD=0"),
        ("777", "it is not open"),
    ] {
        let mut command = Command::new(&role()[0]);
        command.args(&role()[1..]).env("PF_HEARTBEAT_FD", value);
        let report = reported(command);
        let error = report["heartbeat"]["Err"].as_str().unwrap_or_default();
        assert!(error.contains(part), "{report}");
    }
}

/// Messages arrive at a path and at an abstract name; without a receiver there is an error.
#[test]
fn readiness_is_sent_to_the_notify_socket() {
    let mut socket = prefork::sys::notify::NotifySocket::bind().expect("bound");
    let mut command = Command::new(&role()[0]);
    command
        .args(&role()[1..])
        .env("NOTIFY_SOCKET", socket.address());
    let output = command.output().expect("started");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("\"ready\":{\"Ok\":true}"), "{said}");
    assert_eq!(
        socket.receive().expect("read").expect("one").text,
        b"READY=1"
    );
    let mut command = Command::new(&role()[0]);
    command
        .args(&role()[1..])
        .env("NOTIFY_SOCKET", "/nowhere/at/all");
    said.clear();
    let output = command.output().expect("started");
    output
        .stdout
        .as_slice()
        .read_to_string(&mut said)
        .expect("text");
    assert!(
        said.contains("cannot send 'READY=1' to /nowhere/at/all: No such file"),
        "{said}"
    );
}
