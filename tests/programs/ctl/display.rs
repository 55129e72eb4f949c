//! What people see while they wait.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use nix::pty::{Winsize, openpty};

use super::fake::{Ended, HANG, Peer, Scene, ctl, ended, read_until};

const STEP: &str = "{\"event\":\"progress\",\"op\":7,\"done\":2,\"total\":4,\"message\":\"slot 1: \
        worker 4711 ready\"}\n";
const DONE: &str =
    "{\"ok\":true,\"op\":7,\"message\":\"reloaded: generation 2, 4 workers, 0.021 s\"}\n";

#[test]
fn plain_lines_where_there_is_no_terminal() {
    let scene = Scene::new();
    let begin = "{\"event\":\"progress\",\"op\":7,\"done\":0,\"total\":4,\"message\":\"\"}\n";
    let master = scene.answer(&format!("{begin}{STEP}{DONE}"));
    let ended = ctl(["reload".as_ref(), scene.control().as_os_str()]);
    ended.succeeded();
    assert_eq!(ended.stdout, "");
    assert_eq!(
        ended.stderr,
        "pf-ctl: reload: slot 1: worker 4711 ready (2 of 4)\n\
         pf-ctl: reloaded: generation 2, 4 workers, 0.021 s\n"
    );
    master.end();
}

#[test]
fn quiet_prints_only_data_and_errors() {
    let scene = Scene::new();
    let reply = "{\"ok\":true,\"op\":7,\"message\":\"done\",\"warnings\":[\"beware\"]}\n";
    let master = scene.answer(&format!("{STEP}{reply}"));
    let ended = ctl([
        "reload".as_ref(),
        scene.control().as_os_str(),
        "-q".as_ref(),
        "--no-wait".as_ref(),
    ]);
    ended.succeeded();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("7\n", ""));
    master.end();

    ctl([
        "reload".as_ref(),
        scene.dir().join("none.pid").as_os_str(),
        "-q".as_ref(),
    ])
    .failed(3, "not running");
}

#[test]
fn a_progress_bar_on_a_terminal_is_cleared() {
    let (scene, mut terminal, child, go_on) = on_terminal("xterm");
    read_until(&mut terminal, |text| {
        text.contains("] 2/4") && text.contains("worker 4711 ready")
    });
    go_on.send(()).expect("the fake master waits");
    let rest = read_until(&mut terminal, |text| text.contains("0.021 s"));
    assert!(
        rest.contains("\u{1b}[2K"),
        "the bar is erased before the last line: {rest:?}"
    );
    let ended = Ended::of(child.wait_with_output().expect("it ends"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    drop(scene);
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let (scene, mut terminal, child, go_on) = on_terminal("dumb");
    go_on.send(()).expect("the fake master waits");
    let text = read_until(&mut terminal, |text| text.contains("0.021 s"));
    assert!(
        text.starts_with("pf-ctl: reload: slot 1: worker 4711 ready (2 of 4)\r\n"),
        "{text:?}"
    );
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!(
        Ended::of(child.wait_with_output().expect("it ends")).code,
        Some(0)
    );
    drop(scene);
}

#[test]
fn a_waiting_command_has_one_thread_and_its_bar_lives() {
    let (scene, mut terminal, mut child, go_on) = on_terminal("xterm");
    read_until(&mut terminal, |text| text.contains("0s"));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    assert_eq!(
        tasks.count(),
        1,
        "a process limit may refuse another thread"
    );
    // Its clock goes on, though the master says nothing.
    read_until(&mut terminal, |text| text.contains("1s"));
    go_on.send(()).expect("the master listens");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    drop(scene);
}

/// A `pf-ctl reload` whose stderr is a terminal. Its master sends one step and then waits for the
/// test.
fn on_terminal(term: &str) -> (Scene, Terminal, std::process::Child, mpsc::Sender<()>) {
    let scene = Scene::new();
    let (go_on, told) = mpsc::channel();
    scene.play(move |mut peer: Peer| {
        peer.request();
        peer.say(STEP);
        told.recv_timeout(HANG).expect("told to go on");
        peer.say(DONE);
    });
    let size = Winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).expect("a terminal");
    let child = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .args(["reload".as_ref(), scene.control().as_os_str()])
        .env("TERM", term)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(pty.slave)
        .spawn()
        .expect("pf-ctl starts");
    (scene, Terminal(pty.master.into()), child, go_on)
}

/// The master side of a pty.
struct Terminal(std::fs::File);

impl Read for Terminal {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn a_reader_that_has_gone_is_not_an_error() {
    let scene = Scene::new();
    let master = scene.answer("{\"ok\":true,\"listeners\":[]}\n");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
        .args(["listeners".as_ref(), scene.control().as_os_str()])
        .stdout(OwnedFd::from(writer))
        .stderr(Stdio::piped())
        .output()
        .expect("pf-ctl starts");
    let ended = Ended::of(output);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    master.end();
}

#[test]
fn a_full_disk_is_an_error() {
    let scene = Scene::new();
    let master = scene.answer("{\"ok\":true,\"listeners\":[]}\n");
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
    command
        .args(["listeners".as_ref(), scene.control().as_os_str()])
        .stdout(full)
        .stderr(Stdio::piped());
    let ended = Ended::of(
        command
            .spawn()
            .expect("it starts")
            .wait_with_output()
            .expect("it ends"),
    );
    ended.failed(111, "cannot write to standard output");
    master.end();
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let scene = Scene::new();
    let master = scene.answer(&format!("{STEP}{DONE}"));
    let mut shell = assert_cmd::Command::new("sh");
    shell
        .args([
            "-c",
            "exec \"$@\" 2>&-",
            "sh",
            env!("CARGO_BIN_EXE_pf-ctl"),
            "reload",
        ])
        .arg(scene.control());
    ended(shell.timeout(HANG)).succeeded();
    master.end();
}
