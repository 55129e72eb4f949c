//! A listener is added, kept, removed, and brought back.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::json;

use super::{free, give, gives, listener_events, refuses, serves};
use crate::common::load::{Load, Target};
use crate::common::service::Scene;
use crate::common::support::is_thorough;
use crate::common::support::service::{Service, Worker, hello};

/// The names, or addresses, of the listeners.
fn names(service: &Service) -> Vec<String> {
    let listeners = service.status().listeners.into_iter();
    let name = |it: prefork::wire::status::Listener| it.name.unwrap_or(it.address);
    listeners.map(name).collect()
}

#[test]
fn p5_an_added_listener_is_kept_by_everything_but_a_rollback() {
    let service = Service::start(&["-n", "2"], &Worker::hello());
    let (at, path) = (free(), service.path("more"));
    let unix = format!("unix:{}", path.display());
    gives(&service, &[&format!("admin=tcp:{at}"), &unix]);
    let targets = [
        Target::Tcp(at),
        Target::Unix(path),
        Target::Tcp(service.tcp()),
    ];
    let all_serve = || targets.iter().for_each(|target| serves(&service, target));
    all_serve();
    let status = service.status();
    assert_eq!(status.generation, 2, "{}", service.log());
    assert_eq!(status.listeners.len(), 4);
    assert_eq!(status.listeners[2].name.as_deref(), Some("admin"));
    assert_eq!(status.listeners[2].fd, 5);
    let rollout = status.rollout.expect("a rollout");
    assert_eq!(
        (rollout.kind.as_str(), rollout.result.as_str()),
        ("add-fds", "done")
    );
    // Every worker has it: each is alone once.
    for _ in 0..2 {
        let slots = service.ready();
        let pid = slots[0].pid.expect("a worker");
        service.signal(pid, Signal::SIGKILL);
        all_serve();
        service.wait_for(|now| now.workers.ready == 2 && now.slots[0].pid != Some(pid));
    }
    for words in [&["reload"][..], &["upgrade"], &["upgrade", "--fork"]] {
        match words {
            [verb] => service.ctl([verb]),
            [verb, how] => service.ctl([verb, how]),
            _ => unreachable!(),
        }
        all_serve();
        service.ctl(["wait", "--ready"]);
    }
    // What it has already is done at once, whatever it is called now.
    let generation = service.status().generation;
    let (code, text) = {
        // The listeners of the master itself, given back to it.
        let chain = [env!("CARGO_BIN_EXE_pf-ctl"), "add-fds"];
        let pid_file = service.path("app.pid");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
        command
            .arg("take-fds")
            .arg(&pid_file)
            .arg("--")
            .args(chain)
            .arg(&pid_file);
        let output = command.output().expect("pf-ctl starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has these listeners already"), "{text}");
    assert_eq!(service.status().generation, generation);
    // The release before had neither.
    service.ctl(["rollback"]);
    refuses(&service, at);
    assert_eq!(names(&service).len(), 2);
    service.ctl(["rollback", "--to", &generation.to_string()]);
    all_serve();
    assert_eq!(names(&service).len(), 4);
    service.stop();
}

#[test]
fn p5_a_removed_listener_refuses_and_a_rollback_binds_it_anew() {
    let at = free();
    let listen = format!("admin=tcp:{at},backlog=7");
    let service = Service::start(&["-n", "2", "--listen", &listen], &Worker::hello());
    let target = Target::Tcp(at);
    serves(&service, &target);
    let load = Load::start(
        &[Target::Tcp(service.tcp()), Target::Unix(service.unix())],
        2,
    );
    load.more(10);
    service.ctl(["listeners", "--remove", "admin"]);
    refuses(&service, at);
    let (code, text) = service.try_ctl(["listeners", "--remove", "admin"]);
    assert_eq!(code, Some(6), "{text}");
    let others = format!("no listener 'admin': there is tcp:{}, unix:", service.tcp());
    assert!(text.contains(&others), "{text}");
    // An upgrade of either kind does not bring it back, although the command line names it.
    for how in [&["upgrade"][..], &["upgrade", "--fork"]] {
        match how {
            [verb] => service.ctl([verb]),
            [verb, how] => service.ctl([verb, how]),
            _ => unreachable!(),
        }
        refuses(&service, at);
        service.wait_for(|now| now.role == "master");
    }
    // Another process has the address: the rollback changes nothing.
    let other = TcpListener::bind(at).expect("free");
    let before = service.status().generation;
    let (code, text) = service.try_ctl(["rollback"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains(&format!("listener admin: cannot bind tcp:{at}")),
        "{text}"
    );
    assert_eq!(service.status().generation, before, "{}", service.log());
    drop(other);
    service.ctl(["rollback"]);
    serves(&service, &target);
    let listeners = service.status().listeners;
    let admin = listeners
        .iter()
        .find(|it| it.name.as_deref() == Some("admin"));
    assert_eq!(admin.expect("it is back").backlog, Some(7));
    load.more(10);
    load.stop().assert_none_lost(&service.log());
    let told = listener_events(&service, 6);
    let event = |kind: &str| (kind.to_owned(), json!("admin"), format!("tcp:{at}"));
    let wanted = [event("listener-removed"), event("listener-added")];
    assert_eq!(told, wanted, "{}", service.log());
    // Without a name, by any way to write the address.
    service.ctl(["listeners", "--remove", "admin"]);
    service.ctl(["listeners", "--remove", &service.tcp().to_string()]);
    serves(&service, &Target::Unix(service.unix()));
    service.stop();
}

#[test]
fn p5_the_last_listener_may_go_with_a_warning() {
    let scene = Scene::new();
    let path = scene.path("socket");
    let listen = format!("-n 1 --listen {}", path.display());
    let master = scene.master(&listen).start();
    let removed = master.ctl(&format!("listeners --remove {}", path.display()));
    let removed = removed.succeeded();
    let warning = "the service has no listener any more";
    assert!(removed.stderr.contains(warning), "{}", removed.stderr);
    assert!(path.exists(), "as at the end of a service");
    assert_eq!(master.status()["workers"]["ready"], 1);
    master
        .ctl("take-fds -- true")
        .failed(6, &["the master has no listener"]);
    master.ctl("rollback").succeeded();
    std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    master.stop();
}

#[test]
fn p5_a_listener_that_the_workers_do_not_bear_is_taken_away_again() {
    let mut worker = Worker::hello();
    let script = "[ $LISTEN_FDS = 2 ] || exit 3; exec \"$0\"";
    worker.command = vec!["sh".into(), "-c".into(), script.into(), hello().into()];
    let service = Service::start(&["-n", "2"], &worker);
    let at = free();
    let (code, text) = give(&service, &[&format!("tcp:{at}")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("exited with code 3"), "{text}");
    refuses(&service, at);
    let status = service.status();
    assert_eq!((status.generation, status.listeners.len()), (1, 2));
    let event = |kind: &str| (kind.to_owned(), json!(null), format!("tcp:{at}"));
    let wanted = [event("listener-added"), event("listener-removed")];
    assert_eq!(listener_events(&service, 2), wanted);
    // Nor one that they cannot lose.
    let path = service.unix();
    let (code, _) = service.try_ctl(["listeners", "--remove", path.to_str().expect("text")]);
    assert_eq!(code, Some(1), "{}", service.log());
    serves(&service, &Target::Unix(path));
    assert_eq!(listener_events(&service, 3), wanted);
    service.stop();
}

#[test]
fn p5_listeners_come_and_go_under_load_and_the_others_lose_nothing() {
    let service = Service::start(&["-n", "2"], &Worker::hello());
    let load = Load::start(
        &[Target::Tcp(service.tcp()), Target::Unix(service.unix())],
        2,
    );
    let at = free();
    let descriptors = || {
        let pid = service.status().pid;
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        open.expect("descriptors").count()
    };
    let mut before = 0;
    for time in 0..if is_thorough() { 50 } else { 10 } {
        load.more(10);
        gives(&service, &[&format!("admin=tcp:{at}")]);
        serves(&service, &Target::Tcp(at));
        service.ctl(["listeners", "--remove", "admin"]);
        refuses(&service, at);
        if time == 0 {
            before = descriptors();
        }
    }
    load.more(10);
    load.stop().assert_none_lost(&service.log());
    // Workers that drain still have a descriptor or two here.
    service.wait_for(|now| now.workers.retiring == 0 && descriptors() <= before);
    service.stop();
}
