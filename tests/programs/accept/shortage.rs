//! Too little of something: it waits, without spinning, and goes on.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use prefork::sys::machine::clock;

use super::support::{Accept, Client, ECHO, Start};
use crate::common::service::{end_of, process, until};
use crate::common::support::copies::ForAnybody;
use crate::common::support::skip;

/// Processor time so far, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let process = procfs::process::Process::new(pid).expect("it lives");
    let stat = process.stat().expect("it lives");
    stat.utime + stat.stime
}

#[test]
fn after_a_descriptor_shortage_all_clients_are_served() {
    let limited = ["sh", "-c", r#"ulimit -n 20; exec "$@""#, "sh"];
    let accept = Start::with("-c 50").wrapped_in(&limited).handler(ECHO);
    let mut clients: Vec<_> = (0..40).map(|_| accept.dial()).collect();
    accept.wait_for_log("cannot ");
    let (before, begun) = (ticks(accept.pid()), clock::now());
    clock::pause(Duration::from_millis(500));
    assert!(ticks(accept.pid()) - before < 20, "it spins");
    // The first few are served, and the others one by one as these leave. None was refused.
    let mut served = 0;
    clients.retain_mut(|client| {
        if client.hear().is_some() {
            served += 1;
        }
        client
            .stream()
            .shutdown(std::net::Shutdown::Both)
            .expect("open");
        false
    });
    assert_eq!(served, 40, "{}", accept.log());
    accept.wait_for_sleep();
    let lines = accept.log().matches("Too many open files").count();
    // At most one of a kind each second, of two kinds.
    let most = 2 * (clock::now().since(begun).as_secs() as usize + 3);
    assert!((1..=most).contains(&lines), "{lines} lines");
}

#[test]
fn a_handler_that_cannot_start_gives_its_token_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let handler = dir.path().join("handler");
    crate::common::support::copies::copied("/bin/cat", &handler);
    let accept = Accept::start("", &[handler.to_str().expect("UTF-8")]);
    let served = || {
        let mut client = accept.dial();
        client.say("hello");
        client.hear()
    };
    until("it can be executed", || {
        // Another test may have forked while the copy was open for writing.
        (served().as_deref() == Some("hello")).then_some(())
    });
    let away = dir.path().join("away");
    std::fs::rename(&handler, &away).expect("renamed");
    for _ in 0..10 {
        assert_eq!(served(), None);
    }
    accept.wait_for_log("cannot execute its program: No such file or directory");
    let lines = accept.log().matches("No such file").count();
    assert!(lines < 10, "{lines} lines for 10 connections");
    std::fs::rename(&away, &handler).expect("renamed");
    assert_eq!(served().as_deref(), Some("hello"));
    accept.wait_for_sleep();
}

/// A user who may have two processes: this one and one handler.
fn by_a_user_with_two_processes(words: &mut Command) -> Command {
    let uid = (60_000 + std::process::id() % 5000).to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups"])
        .args(["prlimit", "--nproc=2"])
        .arg(words.get_program())
        .args(words.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn after_a_process_shortage_all_clients_are_served() {
    if !nix::unistd::geteuid().is_root() {
        return skip("another user is needed, whose processes are counted");
    }
    let (listen, accept) = (
        env!("CARGO_BIN_EXE_pf-listen"),
        env!("CARGO_BIN_EXE_pf-accept"),
    );
    let programs = ForAnybody::copy([listen, accept]);
    std::fs::set_permissions(programs.dir(), Permissions::from_mode(0o777)).expect("our own");
    let ports = programs.dir().join("ports");
    let mut words = Command::new(programs.of(listen));
    words.arg("--port-file").arg(&ports);
    words.args(["127.0.0.1:0", "--"]).arg(programs.of(accept));
    words.args(["-c", "3", "--", "cat"]);
    let mut child = by_a_user_with_two_processes(&mut words)
        .spawn()
        .expect("setpriv");
    let at = until("it listens", || {
        let text = std::fs::read_to_string(&ports).ok()?;
        text.trim_end().rsplit_once("tcp:")?.1.parse().ok()
    });
    let mut clients = [(); 3].map(|()| {
        let mut client = Client::over_tcp(at);
        client.say("hello");
        client
    });
    let heard = clients[0].hear();
    // There is no room for another one, until this one leaves.
    let waits = clients[1].is_silent_for(Duration::from_millis(300));
    let [first, mut second, mut third] = clients;
    drop(first);
    let second_heard = second.hear();
    drop(second);
    let third_heard = third.hear();
    drop(third);
    process::signal(
        i32::try_from(child.id()).expect("a pid"),
        nix::sys::signal::Signal::SIGTERM,
    );
    let status = end_of(&mut child, "pf-accept");
    assert!(waits);
    let hello = Some("hello".to_owned());
    assert_eq!(heard, hello);
    assert_eq!(second_heard, hello);
    assert_eq!(third_heard, hello);
    assert_eq!(status.code(), Some(0));
}
