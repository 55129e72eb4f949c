//! The units of `examples/systemd`: systemd parses them, and their commands run.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::service::{HANG, Scene, end_of, process, until};
use crate::common::support::service::hello;
use crate::common::support::{skip, unavailable};

use crate::common::notify_manager::Manager;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd")
}

/// A unit, with this tree's programs, and its files in `run`.
fn unit(name: &str, run: &Path) -> String {
    let text = std::fs::read_to_string(folder().join(name)).expect("a unit");
    let programs = Path::new(env!("CARGO_BIN_EXE_pf-master"));
    let programs = programs.parent().expect("a directory");
    // As systemd does: a backslash at the end of a line continues it.
    text.replace("\\\n", " ")
        .replace("/usr/local/bin/hello", &hello().display().to_string())
        .replace("/usr/local/bin", &programs.display().to_string())
        .replace("/run/app/", &format!("{}/", run.display()))
}

/// The words of a setting, as systemd splits them; None: it is not set.
fn setting(unit: &str, name: &str) -> Option<Vec<String>> {
    let mut values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next()?;
    assert!(values.next().is_none(), "{name} is set twice");
    Some(value.split_whitespace().map(str::to_owned).collect())
}

/// The version of a program of systemd's, if it is there.
fn version(program: &str) -> Option<u32> {
    let output = match Command::new(program).arg("--version").output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no {program}: {error}"));
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn systemd_reads_the_units() {
    let Some(version) = version("systemd-analyze") else {
        return;
    };
    let scene = Scene::new();
    for (service, since) in [("app.service", 0), ("app-notify-reload.service", 253)] {
        if version < since {
            unavailable(&format!(
                "{service} needs systemd {since}, and this is {version}"
            ));
            continue;
        }
        // Either of them is the socket's service, under its name.
        for (name, file) in [("app.service", service), ("app.socket", "app.socket")] {
            std::fs::write(scene.path(name), unit(file, Path::new("/run/app"))).expect("written");
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "./app.service", "./app.socket"])
            .current_dir(scene.dir())
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("app."), "{said}");
    }
}

fn seconds(unit: &str, name: &str) -> u32 {
    let words = setting(unit, name).expect("set");
    words[0].parse().expect("seconds")
}

#[test]
fn systemd_units_differ_only_in_reload() {
    let run = Path::new("/run/app");
    let (blocking, signalled) = (
        unit("app.service", run),
        unit("app-notify-reload.service", run),
    );
    let settings = |unit: &str| -> Vec<String> {
        let lines = unit.lines().filter(|line| line.contains('='));
        let lines = lines.filter(|line| !line.starts_with('#'));
        let how = ["Type=", "ExecReload=", "ReloadSignal="];
        let same = lines.filter(|line| !how.iter().any(|how| line.starts_with(how)));
        same.map(str::to_owned).collect()
    };
    assert_eq!(settings(&blocking), settings(&signalled));
    assert_eq!(setting(&blocking, "Type").expect("set"), ["notify"]);
    assert_eq!(setting(&signalled, "Type").expect("set"), ["notify-reload"]);
    // With both, systemd would do both.
    assert_eq!(setting(&signalled, "ExecReload"), None);

    let start = setting(&blocking, "ExecStart").expect("set");
    let place = start.iter().position(|word| word == "--graceful-timeout");
    let graceful = start[place.expect("given") + 1].trim_end_matches('s');
    let graceful: u32 = graceful.parse().expect("seconds");
    assert!(seconds(&blocking, "TimeoutStopSec") > graceful);
    assert!(
        seconds(&blocking, "TimeoutStartSec") > 60,
        "--start-timeout"
    );
}

/// A service that `systemd-socket-activate` waits to start.
struct Activated(Child);

impl Drop for Activated {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.0.id()).expect("a pid");
            process::signal(pid, nix::sys::signal::Signal::SIGSTOP);
            for (worker, _) in process::descendants(pid) {
                process::signal(worker, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

#[test]
fn the_units_commands_start_reload_and_stop() {
    if version("systemd-socket-activate").is_none() {
        return;
    }
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    let unit = unit("app.service", scene.dir());
    let socket = scene.path("app.sock");
    let log = std::fs::File::create(scene.path("err")).expect("a log");
    let child = Command::new("systemd-socket-activate")
        .arg("-l")
        .arg(&socket)
        .arg(format!(
            "-ENOTIFY_SOCKET={}",
            scene.path("manager").display()
        ))
        .args(["-EWATCHDOG_USEC=600000000", "--"])
        .args(setting(&unit, "ExecStart").expect("set"))
        .current_dir(scene.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let mut service = Activated(child);
    // The first client starts it.
    let client = until("it listens", || UnixStream::connect(&socket).ok());
    let pid = service.0.id();
    assert_eq!(
        manager.next_notification(),
        [&format!("MAINPID={pid}"), "WATCHDOG=1"],
        "{}",
        scene.text("err")
    );
    assert_eq!(manager.next_notification(), ["READY=1"]);
    client.set_read_timeout(Some(HANG)).expect("set");
    (&client).write_all(b"world\n").expect("sent");
    let mut answer = String::new();
    BufReader::new(&client)
        .read_line(&mut answer)
        .expect("read");
    assert!(answer.starts_with("hello world, from "), "{answer}");

    let reload = setting(&unit, "ExecReload").expect("set");
    let reloaded = Command::new(&reload[0]).args(&reload[1..]).output();
    let reloaded = reloaded.expect("it starts");
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(manager.next_notification()[0], "RELOADING=1");
    assert_eq!(manager.next_notification(), ["READY=1"]);

    // What systemctl stop does.
    process::signal(
        i32::try_from(pid).expect("a pid"),
        nix::sys::signal::Signal::SIGTERM,
    );
    assert_eq!(end_of(&mut service.0, "the service").code(), Some(0));
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
}
