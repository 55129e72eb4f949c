//! `pf-status` against a master played by the test, which knows what it answers.

mod metrics;
mod watch;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::geteuid;
use socket2::SockRef;
use tempfile::TempDir;

use crate::common::support::PATIENCE;
use crate::common::support::copies::ForAnybody;

const READY: &str = r#"{"pid":4711,"role":"master","state":"running","generation":3,
    "uptime_s":7380.5,"command":["./app","--port"],
    "workers":{"wanted":1,"ready":1},"slots":[{"slot":0,"pid":4712,"generation":3,
    "state":"ready","uptime_s":65,"rss_bytes":1258291,
    "cpu_s":0.25,"requests":12,"connections":1,"status":"serving"}],
    "listeners":[{"name":"http","address":"tcp:127.0.0.1:8080",
    "fd":3,"queued":1,"backlog":4096}],
    "rollout":{"op":1,"kind":"start","to":3,"result":"done","took_s":0.012}}"#;

const DEGRADED: &str = r#"{"pid":4711,"role":"master","state":"running","generation":3,
    "workers":{"wanted":2,"ready":1,"backoff":1},
    "slots":[{"slot":0,"pid":4712,"state":"ready"},
    {"slot":1,"pid":null,"state":"backoff","restarts":7}]}"#;

fn pf_status(target: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-status"));
    command
        .arg(target)
        .args(options)
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(target: &Path, options: &[&str]) -> Child {
    pf_status(target, options)
        .spawn()
        .expect("pf-status starts")
}

/// Runs `pf-status` where no master is to answer.
fn run(target: &Path, options: &[&str]) -> Output {
    start(target, options)
        .wait_with_output()
        .expect("pf-status ends")
}

/// The master's end: a control socket in a new directory.
struct Master {
    dir: TempDir,
    listener: UnixListener,
}

impl Master {
    fn at(name: &str) -> Master {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join(name)).expect("bound");
        // An accept on Linux keeps to the receive timeout.
        SockRef::from(&listener)
            .set_read_timeout(Some(PATIENCE))
            .expect("set");
        Master { dir, listener }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Takes one client's request and leaves the answer to the caller.
    fn request(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().expect("pf-status connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        let mut line = String::new();
        BufReader::new(&mut stream)
            .read_line(&mut line)
            .expect("a request");
        let request: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            request.get("cmd").and_then(|cmd| cmd.as_str()),
            Some("status"),
            "{line}"
        );
        stream
    }

    /// Runs `pf-status` against a master that sends this answer.
    fn answers(&self, target: &Path, options: &[&str], answer: &[u8]) -> Output {
        let child = start(target, options);
        self.request().write_all(answer).expect("answered");
        child.wait_with_output().expect("pf-status ends")
    }

    /// The same for a status document, which may have several lines here.
    fn tells(&self, options: &[&str], document: &str) -> Output {
        let line = format!(
            "{{\"ok\":true,\"status\":{}}}\n",
            document.replace('\n', "")
        );
        self.answers(&self.path("app.ctl"), options, line.as_bytes())
    }
}

/// A pid file that this process holds locked, as a live master does.
fn locked(path: &Path) -> File {
    let mut file = File::create(path).expect("created");
    writeln!(file, "{}", std::process::id()).expect("written");
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&lock)).expect("locked");
    file
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

/// Nothing on stdout and one line on stderr, which it returns.
#[track_caller]
fn one_error(output: &Output, code: i32) -> String {
    assert_exit(output, code);
    assert!(output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert!(
        error.starts_with("pf-status: ") && error.ends_with('\n') && error.lines().count() == 1,
        "{error:?}"
    );
    error
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

#[test]
fn u32_a_healthy_service_is_a_table_and_exit_0() {
    let output = Master::at("app.ctl").tells(&[], READY);
    assert_exit(&output, 0);
    assert_eq!(
        stdout(&output),
        "\
running, generation 3, 1 of 1 workers ready, pid 4711, up 2h 3m: ./app --port

SLOT   PID  GEN  STATE  UPTIME  REQUESTS  CONNS  RESTARTS      RSS    CPU  STATUS
   0  4712    3  ready   1m 5s        12      1         0  1.2 MiB  250ms  serving

LISTENER  ADDRESS             FD   QUEUE
http      tcp:127.0.0.1:8080   3  1/4096

last rollout: start, generation 3, done in 12ms
"
    );
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_degraded_service_has_its_exit_code() {
    let master = Master::at("app.ctl");
    let output = master.tells(&[], DEGRADED);
    assert_exit(&output, 1);
    assert!(
        stdout(&output).contains("1 of 2 workers ready, 1 waiting to be started again"),
        "{output:?}"
    );
    for (document, code) in [(READY, 0), (DEGRADED, 1)] {
        let output = master.tells(&["-q"], document);
        assert_exit(&output, code);
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
    let paused = DEGRADED.replace("running", "paused");
    assert_exit(&master.tells(&["--json"], &paused), 0);
}

#[test]
fn json_is_passed_through_as_it_came() {
    let document = concat!(
        r#"{"zeta": [1.50, 1e3], "version": "99.0", "state": "running", "#,
        r#""workers": {"wanted": 0, "shiny": null}, "alpha": "ü"}"#
    );
    let master = Master::at("app.ctl");
    let output = master.tells(&["--json"], document);
    assert_exit(&output, 0);
    assert_eq!(stdout(&output), format!("{document}\n"));
    // Steps of operations may come before the reply.
    let line = format!(
        "{{\"event\":\"progress\",\"op\":1}}\n{{\"id\":1,\"status\":{document},\"ok\":true}}\n"
    );
    let output = master.answers(&master.path("app.ctl"), &["--json"], line.as_bytes());
    assert_eq!(stdout(&output), format!("{document}\n"));
}

#[test]
fn hostile_strings_never_reach_the_terminal() {
    let evil = r"\u001b]0;owned\u0007\r\n\u009b2J\u202e";
    let raw = "\u{9b}2J\u{202e}\u{7f}";
    let document = READY
        .replace("serving", &format!("{evil}{raw}"))
        .replace("--port", evil)
        .replace("done", raw)
        .replace("http", raw);
    let master = Master::at("app.ctl");
    for options in [&[][..], &["--json"]] {
        let output = master.tells(options, &document);
        assert_exit(&output, 0);
        let text = stdout(&output);
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.chars().any(acts), "{text:?}");
    }
}

/// Runs `pf-status` on several masters, of which each sends its document.
fn tell_all(masters: &[(&Master, &str)], others: &[&Path], options: &[&str]) -> Output {
    let (first, _) = masters[0];
    let mut command = pf_status(&first.path("app.ctl"), options);
    let more = masters[1..].iter();
    let more = more.map(|(master, _)| master.path("app.ctl"));
    let child = command.args(more).args(others).spawn();
    for (master, document) in masters {
        let document = document.replace('\n', "");
        let line = format!("{{\"ok\":true,\"status\":{document}}}\n");
        let answered = master.request().write_all(line.as_bytes());
        answered.expect("answered");
    }
    let child = child.expect("pf-status starts");
    child.wait_with_output().expect("pf-status ends")
}

#[test]
fn several_services_are_a_line_each_and_the_worst_exit_code() {
    let (one, two) = (Master::at("app.ctl"), Master::at("app.ctl"));
    let output = tell_all(&[(&one, READY), (&two, READY)], &[], &[]);
    assert_exit(&output, 0);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(words(lines[0]), ["NAME", "STATE", "GEN", "READY", "UP"]);
    let (path, other) = (one.path("app.ctl"), two.path("app.ctl"));
    // Two of the same name are told apart by their paths.
    for (line, path) in lines[1..].iter().zip([&path, &other]) {
        let path = path.display().to_string();
        assert_eq!(words(line), [&path, "running", "3", "1/1", "2h", "3m"]);
    }

    let absent = one.path("absent.pid");
    for (documents, others, code) in [
        ([READY, DEGRADED], vec![], 1),
        ([DEGRADED, READY], vec![absent.as_path()], 3),
    ] {
        let masters = [(&one, documents[0]), (&two, documents[1])];
        let output = tell_all(&masters, &others, &[]);
        assert_exit(&output, code);
        assert_eq!(stdout(&output).lines().count(), 3 + others.len());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(errors.lines().count(), others.len(), "{errors}");
        let quiet = tell_all(&masters, &others, &["-q"]);
        assert_exit(&quiet, code);
        assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    }
    let output = tell_all(&[(&one, READY), (&two, READY)], &[&absent], &[]);
    let text = stdout(&output);
    assert!(
        text.lines()
            .last()
            .is_some_and(|line| line.starts_with(&absent.display().to_string())),
        "{text}"
    );
    assert!(text.contains("not running"), "{text}");
}

#[test]
fn several_documents_are_a_line_each_in_the_order_of_the_targets() {
    let (one, two) = (Master::at("app.ctl"), Master::at("app.ctl"));
    let absent = one.path("absent \u{202e}.pid");
    let output = tell_all(&[(&one, READY), (&two, DEGRADED)], &[&absent], &["--json"]);
    assert_exit(&output, 3);
    assert!(output.stderr.is_empty(), "{output:?}");
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(
        lines[..2],
        [READY.replace('\n', ""), DEGRADED.replace('\n', "")]
    );
    assert!(!lines[2].contains('\u{202e}'), "{}", lines[2]);
    let last: serde_json::Value = serde_json::from_str(lines[2]).expect("JSON");
    assert_eq!(last["target"], absent.display().to_string());
    let error = last["error"].as_str().expect("a reason");
    assert!(error.starts_with("not running"), "{error}");
}

#[test]
fn a_master_that_does_not_answer_in_time_is_exit_1() {
    let master = Master::at("app.ctl");
    let output = run(&master.path("app.ctl"), &["--timeout", "50ms"]);
    assert!(
        one_error(&output, 1).contains("does not answer"),
        "{output:?}"
    );
    // The next target has its own time.
    let other = Master::at("app.ctl");
    let mut command = pf_status(&master.path("app.ctl"), &["--timeout", "1s"]);
    let child = command.arg(other.path("app.ctl")).spawn();
    let line = format!("{{\"ok\":true,\"status\":{}}}\n", READY.replace('\n', ""));
    other
        .request()
        .write_all(line.as_bytes())
        .expect("answered");
    let output = child.expect("starts").wait_with_output().expect("ends");
    assert_exit(&output, 1);
    assert!(stdout(&output).contains("running"), "{output:?}");
}

#[test]
fn no_line_is_wider_than_columns_says() {
    let long = READY.replace("serving", &"long ".repeat(40));
    let master = Master::at("app.ctl");
    for columns in ["80", "30"] {
        let child = pf_status(&master.path("app.ctl"), &[])
            .env("COLUMNS", columns)
            .spawn();
        let line = format!("{{\"ok\":true,\"status\":{}}}\n", long.replace('\n', ""));
        master
            .request()
            .write_all(line.as_bytes())
            .expect("answered");
        let output = child.expect("starts").wait_with_output().expect("ends");
        let widest = stdout(&output)
            .lines()
            .map(|line| line.chars().count())
            .max();
        assert_eq!(widest.map(|it| it.to_string()).as_deref(), Some(columns));
    }
    let uncut = master.tells(&[], &long);
    assert!(stdout(&uncut).contains(&"long ".repeat(20)), "{uncut:?}");
}

#[test]
fn the_control_socket_of_a_pid_file_is_found() {
    for (pid_file, control) in [
        ("app.pid", "app.ctl"),
        ("app", "app.ctl"),
        ("app.pid.oldbin", "app.pid.oldbin.ctl"),
    ] {
        let master = Master::at(control);
        let pid_file = master.path(pid_file);
        let _held = locked(&pid_file);
        let line = format!("{{\"ok\":true,\"status\":{}}}\n", READY.replace('\n', ""));
        let output = master.answers(&pid_file, &["-q"], line.as_bytes());
        assert_exit(&output, 0);
    }
}

#[test]
fn p8_no_running_master_is_exit_3() {
    let dir = tempfile::tempdir().expect("a directory");
    let absent = dir.path().join("absent.pid");
    let stale = dir.path().join("stale.pid");
    // The number is of a live process; without the lock it means nothing.
    fs::write(&stale, format!("{}\n", std::process::id())).expect("written");
    let deserted = dir.path().join("deserted.ctl");
    drop(UnixListener::bind(&deserted).expect("bound"));
    for target in [&absent, &stale, &deserted] {
        one_error(&run(target, &[]), 3);
        one_error(&run(target, &["--json"]), 3);
        let quiet = run(target, &["-q"]);
        assert_exit(&quiet, 3);
        assert!(
            quiet.stdout.is_empty() && quiet.stderr.is_empty(),
            "{quiet:?}"
        );
    }
}

#[test]
fn a_master_without_a_control_socket_is_exit_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid_file = dir.path().join("app.pid");
    let _held = locked(&pid_file);
    let error = one_error(&run(&pid_file, &[]), 1);
    assert!(error.contains("control socket"), "{error}");
}

#[test]
fn a_socket_that_may_not_be_used_is_exit_4() {
    let master = Master::at("app.ctl");
    let path = master.path("app.ctl");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed")
    };
    mode(master.dir.path(), 0o755);
    mode(&path, 0o000);
    let program = env!("CARGO_BIN_EXE_pf-status");
    let programs = ForAnybody::copy([program]);
    let mut command = Command::new(programs.of(program));
    command.arg(&path);
    if geteuid().is_root() {
        // Root may use any socket; the user nobody may not.
        command.uid(65534).gid(65534);
    }
    one_error(&command.output().expect("pf-status starts"), 4);
}

#[test]
fn refusals_and_invalid_replies_are_one_line_each() {
    let master = Master::at("app.ctl");
    let target = master.path("app.ctl");
    for (answer, code) in [
        (&b"{\"ok\":false,\"error\":{\"code\":\"permission\",\"message\":\"you may not\"}}\n\
        "[..], 4),
        (b"{\"ok\":false,\"error\":{\"code\":\"refused\",\"message\":\"not\\nnow\\u001b[2J\"}}\n\
        ", 1),
        (b"{\"ok\":false,\"error\":{\"code\":\"from-the-future\",\"message\":\"?\"}}\n", 1),
        (b"{\"ok\":true}\n", 1),
        (b"{\"ok\":true,\"status\":7}\n", 1),
        (b"pardon\n", 1),
        (b"\xff\xfe\n", 1),
        // A master that lives and says nothing asks for a token.
        (b"", 4),
        (b"{\"event\":\"progress\",\"op\":1}\n", 3),
    ] {
        let output = master.answers(&target, &[], answer);
        let error = one_error(&output, code);
        assert!(!error.trim_end().chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn a_reader_that_has_left_is_no_error() {
    let master = Master::at("app.ctl");
    for (options, document, code) in [(&[][..], READY, 0), (&["--json"], DEGRADED, 1)] {
        let mut child = start(&master.path("app.ctl"), options);
        let mut stream = master.request();
        drop(child.stdout.take());
        let line = format!(
            "{{\"ok\":true,\"status\":{}}}\n",
            document.replace('\n', "")
        );
        stream.write_all(line.as_bytes()).expect("answered");
        let output = child.wait_with_output().expect("pf-status ends");
        assert_exit(&output, code);
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let master = Master::at("app.ctl");
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("opened");
    for options in [&[][..], &["--json"], &["/absent.pid"]] {
        let child = pf_status(&master.path("app.ctl"), options)
            .stdout(full.try_clone().expect("a copy"))
            .spawn()
            .expect("pf-status starts");
        let line = format!("{{\"ok\":true,\"status\":{}}}\n", READY.replace('\n', ""));
        master
            .request()
            .write_all(line.as_bytes())
            .expect("answered");
        one_error(&child.wait_with_output().expect("pf-status ends"), 111);
    }
}

#[test]
fn wrong_usage_is_exit_2_and_help_is_not() {
    let target = Path::new("/nonexistent");
    assert_exit(&run(target, &["--json", "-q"]), 2);
    assert_exit(&run(target, &["--timeout", "0s"]), 2);
    assert_exit(&run(target, &["--timeout", "soon"]), 2);
    assert_exit(&run(target, &["--unknown"]), 2);
    let help = run(target, &["--help"]);
    assert_exit(&help, 0);
    assert!(
        stdout(&help).contains("--json") && help.stderr.is_empty(),
        "{help:?}"
    );
}
