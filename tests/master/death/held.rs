//! `kill -9` of the master under a holder: each client is served by this master or the next. `kill
//! -9` of the holder: no process is left.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use crate::common::load::{Load, Target, connect, receive};
use crate::common::running::{Running, is_root, pf_listen};
use crate::common::service::master::{address, refused};
use crate::common::service::scene_processes::{SceneProcesses, children, guard_of};
use crate::common::service::{Scene, process, until};
use crate::common::support::copies::ForAnybody;
use crate::common::support::is_there;
use crate::common::support::service::{Service, Worker, hello};
use crate::common::support::skip;
use crate::plain_worker::plain;

/// How often the master is killed.
const TIMES: usize = 50;
/// Clients a listener.
const CLIENTS: usize = 2;
/// Requests that each listener answers between two kills.
const BETWEEN: u64 = 25;

fn targets(service: &Service) -> [Target; 2] {
    [Target::Tcp(service.tcp()), Target::Unix(service.unix())]
}

/// Kills the master once it has lived long enough for an immediate restart, and waits for the next
/// one to serve.
fn kill_master(service: &Service) -> i32 {
    let master = service.wait_for(|status| status.uptime_s > Some(0.12)).pid;
    assert_ne!(master, service.started());
    service.signal(master, Signal::SIGKILL);
    until("it is gone", || (!process::alive(master)).then_some(()));
    service.ctl(["wait", "--ready"]);
    assert_ne!(service.status().pid, master);
    master
}

#[test]
fn fifty_kills_of_the_master_lose_no_request() {
    // The parent-death signal of the workers is the one by which the master asks them to finish.
    let service = Service::held(&["-n", "3"], &Worker::hello());
    let load = Load::start(&targets(&service), CLIENTS);
    for _ in 0..TIMES {
        load.more(BETWEEN);
        kill_master(&service);
    }
    load.more(BETWEEN);
    load.stop().assert_none_lost(&service.log());
    let log = service.log();
    let again = log
        .matches("was ended by signal KILL; started again")
        .count();
    assert_eq!(again, TIMES, "{log}");
    service.stop();
}

#[test]
fn kills_of_the_master_at_any_time_lose_no_request() {
    let options = ["-n", "2", "--ready", "exec", "--backoff", "1ms..1ms"];
    let service = Service::held(&options, &plain());
    let load = Load::start(&targets(&service), CLIENTS);
    for time in 0..TIMES / 2 {
        // The master is killed at any age: while it starts, while it forks, while it begins to
        // serve.
        let master = until("there is a master", || {
            children(service.started()).first().copied()
        });
        clock::pause(Duration::from_micros(time as u64 * 1009 % 40_000));
        service.signal(master, Signal::SIGKILL);
        until("it is gone", || (!process::alive(master)).then_some(()));
        // A master that lived longer than the wait resets the wait.
        service.ctl(["wait", "--ready"]);
        service.wait_for(|status| status.uptime_s > Some(0.25));
        kill_master(&service);
    }
    service.ctl(["wait", "--ready"]);
    load.more(BETWEEN);
    load.stop().assert_none_lost(&service.log());
    service.stop();
}

#[test]
fn queued_clients_are_served_by_the_next_master() {
    let service = Service::held(&["-n", "2"], &Worker::hello());
    service.ctl(["pause"]);
    let mut clients = Vec::new();
    for (index, target) in targets(&service).iter().enumerate() {
        for number in 0..20 {
            let id = format!("{index}-{number}");
            let mut socket = connect(target).expect("connected");
            socket
                .write_all(format!("{id}\n").as_bytes())
                .expect("sent");
            clients.push((id, socket));
        }
    }
    kill_master(&service);
    for (id, mut socket) in clients {
        receive(&mut socket, &id)
            .unwrap_or_else(|lost| panic!("{id}: {lost:?}\n{}", service.log()));
    }
    service.stop();
}

#[test]
fn r56_a_killed_master_leaves_nothing_to_the_next() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    // A worker that will not go, with a child.
    scene.app("trap '' TERM; sleep 1000 & say up; up; wait; rest");
    let wrapper = [pf_listen(), "--hold", "127.0.0.1:0", "--"];
    let mut master = scene
        .master("-n 2 --ready fd=9 --graceful-timeout 300ms")
        .wrapped_in(wrapper)
        .start();
    let before = master.status();
    let pid = i32::try_from(before["pid"].as_i64().expect("a pid")).expect("a pid");
    let mut old = master.workers();
    old.push(guard_of(pid));
    old.extend(process::descendants(pid).iter().map(|(pid, _)| *pid));
    process::signal(pid, Signal::SIGKILL);
    process::gone(pid);
    master.ctl("wait --ready").succeeded();
    let after = master.status();
    assert_ne!(after["pid"], before["pid"]);
    assert_eq!(address(&after, 0), address(&before, 0));
    assert_eq!(scene.text("app.pid"), format!("{}\n", after["pid"]));
    old.into_iter().for_each(process::gone);
    // The next one starts from nothing, but with the same listeners.
    assert_eq!(after["generation"], 1);
    assert_eq!(after["listeners"][0]["fd"], before["listeners"][0]["fd"]);
    master.ctl("stop --now").succeeded();
    assert_eq!(master.end(), Some(0), "{}", master.log());
    processes.gone();
}

#[test]
fn u25_a_killed_holder_leaves_nothing() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let wrapper = [pf_listen(), "--hold", "127.0.0.1:0", "--"];
    let mut master = scene
        .master("-n 2 --ready fd=9")
        .wrapped_in(wrapper)
        .start();
    let at = address(&master.status(), 0);
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None);
    processes.gone();
    refused(at);
    // The master had TERM, and ended as it does by that.
    assert!(!scene.path("app.pid").exists() && !scene.path("app.ctl").exists());
}

#[test]
fn r56_holder_and_master_killed_at_once_leave_nothing() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let wrapper = [pf_listen(), "--hold", "127.0.0.1:0", "--"];
    let master = scene
        .master("-n 2 --ready fd=9 --graceful-timeout 1s")
        .wrapped_in(wrapper)
        .start();
    let pid = i32::try_from(master.status()["pid"].as_i64().expect("a pid")).expect("a pid");
    for doomed in [master.pid(), pid] {
        process::signal(doomed, Signal::SIGKILL);
    }
    processes.gone();
}

#[test]
fn u25_a_killed_holder_ends_a_chain_of_another_user() {
    if !is_root("change its user") {
        return;
    }
    if !is_there("setpriv") {
        return skip("there is no setpriv here");
    }
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = env!("CARGO_BIN_EXE_pf-master");
    let programs = ForAnybody::copy([master.as_ref(), hello().as_path()]);
    let mut command = Command::new(pf_listen());
    command.args(["-q", "--hold", "127.0.0.1:0", "--", "setpriv"]);
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    command.arg(programs.of(master)).args(["-n", "1", "--"]);
    command.arg(programs.of(hello()));
    let running = Running::start(command_in(&scene, command));
    let holder = i32::try_from(running.pid()).expect("a pid");
    let pid = until("the master has a worker", || {
        let pid = *children(holder).first()?;
        (process::name(pid) == "pf-master" && children(pid).len() == 2).then_some(pid)
    });
    assert!(process::status(pid, "Uid").starts_with("65534"));
    process::signal(holder, Signal::SIGKILL);
    processes.gone();
}

/// With what a scene's processes are known by.
fn command_in(scene: &Scene, mut command: Command) -> Command {
    command.env("PF_TEST_SAY", scene.path("say"));
    command
}
