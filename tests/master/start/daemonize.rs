//! `--daemonize`: the shell learns how the start ended (U31).

use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::common::notify_manager::Manager;
use crate::common::service::master::Launch;
use crate::common::service::scene::GATED;
use crate::common::service::{Control, Ended, HANG, Scene, process, until};
use crate::common::terminal::terminal;

/// What a daemon of this scene may leave behind goes with this.
struct Daemon<'a>(&'a Scene);

impl Daemon<'_> {
    /// Its pid, once it owns the pid file.
    #[track_caller]
    fn pid(&self) -> i32 {
        until("a pid file", || {
            self.0.text("app.pid").trim_end().parse().ok()
        })
    }

    #[track_caller]
    fn ctl(&self, verb: &str) -> Ended {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
        command.arg(verb).arg(self.0.path("app.pid")).timeout(HANG);
        Ended::of(&command.output().expect("pf-ctl starts"))
    }

    /// Nothing of it is left.
    #[track_caller]
    fn assert_gone(&self, pids: &[i32]) {
        for pid in pids {
            assert!(!process::alive(*pid), "{pid} {}", process::name(*pid));
        }
        for name in ["app.pid", "app.ctl"] {
            assert!(!self.0.path(name).exists(), "{name} is left");
        }
    }

    #[track_caller]
    fn stop(self) {
        let pid = self.pid();
        let workers = process::descendants(pid);
        self.ctl("stop").succeeded();
        let mut all: Vec<i32> = workers.iter().map(|(pid, _)| *pid).collect();
        all.push(pid);
        self.assert_gone(&all);
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let Ok(pid) = self.0.text("app.pid").trim_end().parse() else {
            return;
        };
        // A file that a killed one has left tells nothing.
        if !process::alive(pid) || process::name(pid) != "pf-master" {
            return;
        }
        process::signal(pid, Signal::SIGSTOP);
        for (worker, _) in process::descendants(pid) {
            process::signal(worker, Signal::SIGKILL);
        }
        process::signal(pid, Signal::SIGKILL);
    }
}

fn daemonized<'a>(scene: &'a Scene, options: &str) -> Launch<'a> {
    scene.master(&format!("--daemonize --ready fd=9 {options}"))
}

#[test]
fn p7_u31_the_caller_returns_once_all_workers_are_ready() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app(GATED);
    let mut caller = daemonized(&scene, "-n 2").spawn();
    let own = scene.reports("up", 2)[0].pid;
    // One is not all.
    scene.open_door(0);
    let mut control = Control::connect(&scene.path("app.ctl")).expect("it listens");
    until("one is ready", || {
        (control.status()["workers"]["ready"] == 1).then_some(())
    });
    assert!(process::alive(caller.pid()), "it waits");
    scene.open_door(1);
    assert_eq!(caller.end(), Some(0));
    assert_eq!(control.status()["workers"]["ready"], 2);

    let pid = daemon.pid();
    assert_ne!(pid, caller.pid());
    assert_eq!(
        control.status()["pid"],
        pid,
        "the final one stands in the file"
    );
    assert_eq!(process::environment(own)["PF_MASTER_PID"], pid.to_string());
    let stat = procfs_stat(pid);
    assert_eq!((stat.session, stat.tty_nr), (pid, 0));
    assert_eq!(
        process::cwd(pid),
        scene.dir().canonicalize().expect("it is there")
    );
    for process in [pid, own] {
        let open = process::descriptors(process);
        for fd in 0..3 {
            assert_eq!(open[&fd], "/dev/null", "{fd} of {process}");
        }
    }
    assert_eq!(scene.text("err"), "", "nothing was amiss");
    daemon.stop();
}

fn procfs_stat(pid: i32) -> procfs::process::Stat {
    procfs::process::Process::new(pid)
        .and_then(|process| process.stat())
        .expect("it lives")
}

#[test]
fn output_of_workers_follows_the_daemons_log() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app("echo to stdout; echo to stderr >&2; up; rest");
    let ended = daemonized(&scene, "-n 1 --log app.log").run().succeeded();
    assert_eq!(ended.stderr, "");
    let log = scene.text("app.log");
    for part in ["\nto stdout\n", "\nto stderr\n", "start done: generation 1"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    std::fs::rename(scene.path("app.log"), scene.path("app.log.1")).expect("rotated");
    daemon.ctl("reopen").succeeded();
    daemon.ctl("reload").succeeded();
    let log = scene.text("app.log");
    assert!(
        log.contains("to stdout\n") && log.contains("to stderr\n"),
        "{log}"
    );
    assert!(!scene.text("app.log.1").contains("generation 2"));
    daemon.stop();
}

#[test]
fn u31_a_failed_start_is_one_line_and_its_code() {
    let cases: [(&str, &[&str], i32, &str); 6] = [
        (
            "-n 2 --start-failures 1",
            &["sh", "-c", "exit 3"],
            1,
            "exited with code 3 before it was ready",
        ),
        (
            "-n 1",
            &["./missing"],
            1,
            "worker program ./missing: No such file or directory",
        ),
        ("-n 1 --chdir missing", &["true"], 1, "working directory"),
        (
            "-n 1 --keep-fd 9",
            &["true"],
            2,
            "--ready fd=9 and --keep-fd 9 are the same descriptor",
        ),
        (
            "-n 1 --log missing/log",
            &["true"],
            111,
            "cannot open log file missing/log",
        ),
        ("-n 1 --listen fd:77", &["true"], 111, "fd"),
    ];
    for (options, command, code, why) in cases {
        let scene = Scene::new();
        let daemon = Daemon(&scene);
        let ended = daemonized(&scene, options).command(command).run();
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("pf-master: "), "{ended:?}");
        ended.failed(code, &[why]);
        daemon.assert_gone(&[]);
    }
    let scene = Scene::new();
    daemonized(&scene, "--no-such-option").run().failed(2, &[]);
}

#[test]
fn a_pid_file_with_an_owner_is_refused() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --ready fd=9").start();
    let why = format!("master {} owns it", master.pid());
    daemonized(&scene, "-n 1").run().failed(6, &[&why]);
    assert_eq!(master.workers().len(), 1);
    master.stop();
}

#[test]
fn a_daemon_killed_during_start_reports_the_signal() {
    let scene = Scene::new();
    scene.app(GATED);
    let mut caller = daemonized(&scene, "-n 1").spawn();
    let worker = scene.report("up").pid;
    let pid = Daemon(&scene).pid();
    process::signal(pid, Signal::SIGKILL);
    assert_eq!(caller.end(), Some(1));
    let line =
        format!("pf-master: the daemon, process {pid}: was killed by KILL before it was ready");
    assert_eq!(caller.log().trim_end(), line);
    process::gone(worker);
}

#[test]
fn a_daemon_stopped_during_start_is_not_ready() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app(GATED);
    let mut caller = daemonized(&scene, "-n 1").spawn();
    let worker = scene.report("up").pid;
    let pid = daemon.pid();
    daemon.ctl("stop").succeeded();
    assert_eq!(caller.end(), Some(1));
    assert_eq!(
        caller.log().trim_end(),
        "pf-master: stopped before it was ready"
    );
    daemon.assert_gone(&[pid, worker]);
}

#[test]
fn ctrl_c_of_the_waiting_caller_ends_the_daemon() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app(GATED);
    let (mut keyboard, slave) = terminal();
    let mut caller = daemonized(&scene, "-n 1")
        .wrapped_in(["setsid", "--ctty"])
        .stdin(slave)
        .spawn();
    let worker = scene.report("up").pid;
    let pid = daemon.pid();
    keyboard.write_all(b"\x03").expect("typed");
    let status = caller.status_at_end();
    assert_eq!(status.signal(), Some(nix::libc::SIGINT), "{status}");
    // It has waited for that.
    daemon.assert_gone(&[pid, worker]);
}

#[test]
fn a_killed_waiting_caller_ends_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let scene = Scene::new();
        let daemon = Daemon(&scene);
        scene.app(GATED);
        let mut caller = daemonized(&scene, "-n 1").spawn();
        let worker = scene.report("up").pid;
        let pid = daemon.pid();
        caller.signal(signal);
        let status = caller.status_at_end();
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
        // Of a KILL the kernel tells the daemon.
        if signal == Signal::SIGKILL {
            process::gone(pid);
        }
        daemon.assert_gone(&[pid, worker]);
    }
}

#[test]
fn listeners_meant_for_the_caller_are_the_daemons() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app("play 'serve'");
    let listen = [
        env!("CARGO_BIN_EXE_pf-listen"),
        "--quiet",
        "web=tcp:127.0.0.1:0",
        "--",
    ];
    scene
        .master("-n 1 --daemonize --ready notify --log app.log")
        .wrapped_in(listen)
        .run()
        .succeeded();
    let log = scene.text("app.log");
    assert!(log.contains("listener web: tcp:127.0.0.1:"), "{log}");
    assert!(!log.contains("ignored"), "{log}");
    daemon.stop();
}

#[test]
fn a_daemon_upgraded_in_place_keeps_pid_and_log() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    scene.app("echo to stdout; up; rest");
    daemonized(&scene, "-n 1 --log app.log").run().succeeded();
    let pid = daemon.pid();
    std::fs::rename(scene.path("app.log"), scene.path("app.log.1")).expect("rotated");
    daemon.ctl("upgrade").succeeded();
    assert_eq!(daemon.pid(), pid);
    let mut control = Control::connect(&scene.path("app.ctl")).expect("it listens");
    let status = control.status();
    assert_eq!(
        (&status["pid"], &status["generation"]),
        (&pid.into(), &2.into())
    );
    let log = scene.text("app.log");
    assert!(
        log.contains("has taken over") && log.contains("\nto stdout\n"),
        "{log}"
    );
    daemon.stop();
}

#[test]
fn a_service_manager_first_receives_the_main_pid() {
    let scene = Scene::new();
    let daemon = Daemon(&scene);
    let manager = Manager::at(&scene.path("manager"));
    daemonized(&scene, "-n 1")
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .run()
        .succeeded();
    let main = [format!("MAINPID={}", daemon.pid())];
    assert_eq!(manager.next_notification(), main, "from the caller");
    assert_eq!(manager.next_notification(), main, "from itself");
    assert_eq!(manager.next_notification(), ["READY=1"]);
    daemon.stop();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
}
