//! What else a worker starts with: descriptors, signals, session, limits; also after many reloads,
//! and what the master was started with.

use std::collections::BTreeSet;

use procfs::process::Process;

use crate::common::service::Scene;
use crate::common::service::process::{descriptors, status, wait_for_sleep};

const NOTHING: &str = "0000000000000000";

/// A wrapper that becomes the master with own descriptors open, without close-on-exec.
const LEAKY: &[&str] = &[
    "sh",
    "-c",
    r#"exec 7</dev/zero 8</dev/zero; exec "$@""#,
    "sh",
];

fn numbers(pid: i32) -> Vec<i32> {
    descriptors(pid).into_keys().collect()
}

#[test]
fn u21_u28_a_worker_has_no_stray_descriptors() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready exec --listen 127.0.0.1:0 --listen 127.0.0.1:0")
        .wrapped_in(LEAKY)
        .command(["sleep", "1000"])
        .start();
    for pid in master.workers() {
        wait_for_sleep(pid);
        let open = descriptors(pid);
        assert_eq!(
            open.keys().copied().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5],
            "{open:?}"
        );
        assert_eq!(open[&0], "/dev/null");
        assert_eq!((open[&3].as_str(), open[&4].as_str()), ("socket", "socket"));
        assert!(open[&5].contains("pf-heartbeat"), "{open:?}");
    }
    let own = numbers(master.pid()).len();
    let generation =
        |master: &crate::common::service::Master| master.status()["generation"].as_u64();
    assert_eq!(generation(&master), Some(1));
    for _ in 0..30 {
        master.ctl("reload").succeeded();
    }
    assert_eq!(generation(&master), Some(31));
    for pid in master.workers() {
        wait_for_sleep(pid);
        assert_eq!(numbers(pid), [0, 1, 2, 3, 4, 5]);
    }
    // The connection that was asked through may not be forgotten yet.
    crate::common::service::until("the master has as many as at first", || {
        (numbers(master.pid()).len() <= own).then_some(())
    });
}

#[test]
fn the_ready_fd_is_where_it_was_asked_for() {
    let scene = Scene::new();
    // Of two listeners, 3 and 4, the heartbeat would be 5: it makes room.
    scene.app("echo >&5; exec sleep 1000");
    let master = scene
        .master("-n 1 --ready fd=5 --listen 127.0.0.1:0 --listen 127.0.0.1:0")
        .start();
    let worker = master.workers()[0];
    wait_for_sleep(worker);
    let open = descriptors(worker);
    assert_eq!(
        open.keys().copied().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6],
        "{open:?}"
    );
    assert_eq!(open[&5], "pipe");
    assert!(open[&6].contains("pf-heartbeat"), "{open:?}");
    let within = scene
        .master("-n 1 --ready fd=4 --listen 127.0.0.1:0 --listen 127.0.0.1:0")
        .names("")
        .run();
    within.failed(2, &["fd=4", "listeners"]);
}

#[test]
fn u28_p10_workers_start_with_default_signal_state() {
    // nohup ignores HUP, a shell's background job INT and QUIT; python blocks what it likes.
    let ignoring: &[&str] = &[
        "sh",
        "-c",
        r#"trap '' HUP INT QUIT TERM USR1 CHLD PIPE TTOU; exec "$@""#,
        "sh",
    ];
    let blocking: &[&str] = &[
        "python3",
        "-c",
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); \
         os.execv(sys.argv[1], sys.argv[1:])",
    ];
    for wrapper in [&[][..], ignoring, blocking] {
        let scene = Scene::new();
        let mut master = scene
            .master("-n 1 --ready exec")
            .wrapped_in(wrapper)
            .command(["sleep", "1000"])
            .start();
        let worker = master.workers()[0];
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(status(worker, field), NOTHING, "{field} under {wrapper:?}");
        }
        // The master itself handles signals, reaps and stops.
        assert_eq!(status(master.pid(), "SigBlk"), NOTHING, "under {wrapper:?}");
        crate::common::service::process::signal(worker, nix::sys::signal::Signal::SIGKILL);
        master.until("replaced", |status| status["counters"]["readied"] == 2);
        master.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(master.end(), Some(0));
    }
}

#[test]
fn s4_a_worker_leads_a_session_of_its_own() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready exec")
        .command(["sleep", "1000"])
        .start();
    let mut sessions = BTreeSet::new();
    for pid in master.workers() {
        let stat = Process::new(pid)
            .and_then(|process| process.stat())
            .expect("it lives");
        assert_eq!(
            (stat.session, stat.pgrp, stat.tty_nr, stat.ppid),
            (pid, pid, 0, master.pid())
        );
        sessions.insert(stat.session);
    }
    assert_eq!(sessions.len(), 2);
}

#[test]
fn u28_workers_get_the_masters_limit_of_open_files() {
    let scene = Scene::new();
    let wrapper = ["sh", "-c", r#"ulimit -Sn 77; exec "$@""#, "sh"];
    let master = scene
        .master("-n 1 --ready exec")
        .wrapped_in(wrapper)
        .command(["sleep", "1000"])
        .start();
    let files = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
        let line = text
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .expect("a line")
            .to_owned();
        let fields: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        (fields[3].clone(), fields[4].clone())
    };
    let hard = files(master.pid()).1;
    assert_eq!(files(master.pid()).0, hard, "the master raises its own");
    assert_eq!(files(master.workers()[0]), ("77".to_owned(), hard));
}

#[test]
fn u2_u4_listeners_of_pf_listen_are_passed_through() {
    let scene = Scene::new();
    scene.app("play serve");
    let path = scene.path("app.sock");
    let unix = format!("local=unix:{},mode=0600", path.display());
    let wrapper = [
        env!("CARGO_BIN_EXE_pf-listen"),
        "web=127.0.0.1:0",
        &unix,
        "--",
    ];
    let master = scene.master("-n 1").wrapped_in(wrapper).start();
    let status = master.status();
    assert_eq!(
        (
            &status["listeners"][0]["name"],
            &status["listeners"][1]["name"]
        ),
        (&"web".into(), &"local".into())
    );
    let worker = master.workers()[0];
    assert_eq!(master.dial().ask(), (0, 1, worker));
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
    stream
        .set_read_timeout(Some(crate::common::service::HANG))
        .expect("a timeout");
    std::io::Write::write_all(&mut stream, b"who\n").expect("sent");
    let mut answer = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut answer)
        .expect("an answer");
    assert_eq!(answer.trim(), format!("0 1 {worker}"));
    let table = master.ctl("listeners").succeeded().stdout;
    assert!(table.contains("web") && table.contains("local"), "{table}");
}
