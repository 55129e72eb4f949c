//! `pf-status --watch`, on a terminal and without one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEGRADED, Master, READY, assert_exit, one_error, pf_status};
use crate::common::terminal::{resize, terminal, wait_for_text};

/// What is written to take the terminal, and to give it back.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?1049l";
const RED: &str = "\x1b[31m";

fn answer(master: &Master, document: &str) {
    let document = document.replace('\n', "");
    let line = format!("{{\"ok\":true,\"status\":{document}}}\n");
    let answered = master.request().write_all(line.as_bytes());
    answered.expect("answered");
}

/// Watches on a terminal; the other end of that.
fn watch(target: &Path, options: &[&str], no_color: Option<&str>) -> (Child, File) {
    let (held, other_end) = terminal();
    resize(&held, 24);
    let mut command = pf_status(target, options);
    command
        .stdout(other_end)
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    (command.spawn().expect("pf-status starts"), held)
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("sent");
}

/// The signal ends it, and the terminal is as before.
#[track_caller]
fn ends_by(mut child: Child, terminal: &File, signal: Signal) {
    send(&child, signal);
    let text = wait_for_text(terminal, END);
    assert!(text.ends_with(END), "{text:?}");
    let status = child.wait().expect("it ends");
    assert_eq!(status.signal(), Some(signal as libc::c_int));
}

#[test]
fn u32_a_terminal_shows_each_round_in_place_with_colour_only_for_what_is_not_well() {
    let master = Master::at("app.ctl");
    let path = master.path("app.ctl");
    let (child, terminal) = watch(&path, &["--watch=10ms"], None);
    answer(&master, READY);
    let first = wait_for_text(&terminal, "\x1b[J");
    assert!(
        first.starts_with(&format!("{BEGIN}\x1b[Hrunning, ")),
        "{first:?}"
    );
    assert!(
        first.contains("serving") && !first.contains(RED),
        "{first:?}"
    );
    assert!(
        !first.contains("\x1b[2J"),
        "nothing is erased first: {first:?}"
    );
    answer(&master, DEGRADED);
    let second = wait_for_text(&terminal, "\x1b[J");
    assert!(second.starts_with("\x1b[H"), "{second:?}");
    let bad: Vec<&str> = second
        .split("\r\n")
        .filter(|line| line.contains(RED))
        .collect();
    assert_eq!(bad.len(), 2, "{second:?}");
    assert!(
        bad[0].contains("1 of 2") && bad[1].contains("backoff"),
        "{bad:?}"
    );
    ends_by(child, &terminal, Signal::SIGTERM);
}

#[test]
fn no_color_is_honoured() {
    let master = Master::at("app.ctl");
    for (no_color, is_red) in [("1", false), ("", true)] {
        let path = master.path("app.ctl");
        let (child, terminal) = watch(&path, &["--watch=1h"], Some(no_color));
        answer(&master, DEGRADED);
        let text = wait_for_text(&terminal, "\x1b[J");
        assert_eq!(text.contains(RED), is_red, "{text:?}");
        ends_by(child, &terminal, Signal::SIGINT);
    }
}

#[test]
fn a_resized_terminal_is_drawn_again_without_another_question() {
    let master = Master::at("app.ctl");
    let (child, terminal) = watch(&master.path("app.ctl"), &["--watch=1h"], None);
    answer(&master, READY);
    let all = wait_for_text(&terminal, "\x1b[J");
    assert!(all.contains("last rollout"), "{all:?}");
    resize(&terminal, 4);
    send(&child, Signal::SIGWINCH);
    let small = wait_for_text(&terminal, "\x1b[J");
    assert_eq!(small.matches("\r\n").count(), 3, "{small:?}");
    assert!(small.contains("… 6 more lines"), "{small:?}");
    ends_by(child, &terminal, Signal::SIGQUIT);
}

#[test]
fn a_signal_ends_it_also_while_a_master_is_silent() {
    let master = Master::at("app.ctl");
    let (child, terminal) = watch(&master.path("app.ctl"), &["--watch", "--timeout=1h"], None);
    let silent = master.request();
    ends_by(child, &terminal, Signal::SIGINT);
    drop(silent);
}

#[test]
fn u32_a_master_that_is_away_is_shown_and_found_again() {
    let master = Master::at("app.ctl");
    let path = master.path("app.ctl");
    let (child, terminal) = watch(&path, &["--watch=10ms"], None);
    answer(&master, READY);
    wait_for_text(&terminal, "serving");
    std::fs::rename(&path, master.path("aside")).expect("moved");
    // The question that is on its way already is not answered.
    let away = loop {
        let text = wait_for_text(&terminal, "\x1b[J");
        if text.contains("not running: ") {
            break text;
        }
        master.listener.set_nonblocking(true).expect("set");
        drop(master.listener.accept());
        master.listener.set_nonblocking(false).expect("set");
    };
    assert!(away.contains(RED), "{away:?}");
    std::fs::rename(master.path("aside"), &path).expect("moved back");
    answer(&master, READY);
    wait_for_text(&terminal, "serving");
    ends_by(child, &terminal, Signal::SIGHUP);
}

#[test]
fn without_a_terminal_the_rounds_follow_each_other_until_the_reader_leaves() {
    let master = Master::at("app.ctl");
    let mut child = pf_status(&master.path("app.ctl"), &["--watch=1ms"])
        .spawn()
        .expect("pf-status starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("read");
    answer(&master, READY);
    let first: Vec<String> = (0..9).map(|_| next()).collect();
    assert!(first[0].starts_with("running, "), "{first:?}");
    assert!(first[8].starts_with("last rollout"), "{first:?}");
    assert!(!first.iter().any(|line| line.contains('\x1b')), "{first:?}");
    // An empty line is between two rounds, and comes with the second one.
    answer(&master, DEGRADED);
    let second: Vec<String> = (0..6).map(|_| next()).collect();
    assert_eq!(second[0], "");
    assert!(second[1].contains("1 of 2"), "{second:?}");
    drop(lines);
    answer(&master, DEGRADED);
    let output = child.wait_with_output().expect("it ends");
    assert_exit(&output, 1);
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn several_services_are_watched_too_and_a_full_disk_ends_it() {
    let (one, two) = (Master::at("app.ctl"), Master::at("web.ctl"));
    let mut command = pf_status(&one.path("app.ctl"), &["--watch=1ms"]);
    let mut child = command.arg(two.path("web.ctl")).spawn().expect("starts");
    answer(&one, READY);
    answer(&two, DEGRADED);
    let mut stdout = child.stdout.take().expect("piped");
    let mut text = vec![0; 16];
    stdout.read_exact(&mut text).expect("read");
    assert!(text.starts_with(b"NAME"), "{text:?}");
    answer(&one, READY);
    // The first round has been written: the second one has begun.
    drop(stdout);
    answer(&two, READY);
    assert_exit(&child.wait_with_output().expect("it ends"), 0);

    let full = File::options().write(true).open("/dev/full");
    let child = pf_status(&one.path("app.ctl"), &["--watch=1ms"])
        .stdout(full.expect("opened"))
        .stderr(Stdio::piped())
        .spawn();
    answer(&one, READY);
    let output = child.expect("starts").wait_with_output();
    one_error(&output.expect("it ends"), 111);
}
