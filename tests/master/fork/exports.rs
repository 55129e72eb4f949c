//! A new master exports the listeners in the same protocols, and each of two masters reads only its
//! own workers' acks.

use nix::sys::signal::Signal;

use super::{ForkService, ends, family, pid_of};
use crate::common::service::process;

const OPTIONS: &str = "-n 2 --ready notify --graceful-timeout 1s -e einhorn";

const ACK: &str = r#"einhorn {"command":"worker:ack", "pid":PID}"#;

fn told(worker: i32, name: &str) -> String {
    process::environment(worker)[name].clone()
}

fn acks(service: &ForkService) -> Vec<String> {
    let names = std::fs::read_dir(service.path("")).expect("ours").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".ack")).collect();
    names.sort();
    names
}

#[test]
fn u16_protocols_and_acks_are_those_of_the_new_master() {
    let service = ForkService::new();
    service.scene.app(&format!("play '{ACK}; catch'"));
    // It requests einhorn's protocol and was given unicorn's: the requested one wins in both
    // masters.
    let mut master = service
        .master(OPTIONS)
        .wrapped_in([
            crate::common::running::pf_listen(),
            "-e",
            "unicorn",
            "127.0.0.1:0",
            "--",
        ])
        .start();
    let first = master.pid();
    for _ in 0..2 {
        service.ctl("upgrade --fork").succeeded();
        let (new, workers) = family(&service.status());
        assert_eq!(told(workers[0], "EINHORN_FD_0"), "3");
        assert_eq!(told(workers[0], "EINHORN_MASTER_PID"), new.to_string());
        assert!(!process::environment(workers[0]).contains_key("UNICORN_FD"));
        assert_eq!(acks(&service), [format!("app.{new}.ack")]);
    }
    ends(&mut master);
    assert_ne!(pid_of(&service.status()), first);
    service.stop();
}

#[test]
fn u16_inherited_protocols_go_on_in_a_new_master() {
    let service = ForkService::new();
    service.scene.app("up; rest");
    let mut master = service
        .master("-n 1 --ready fd=9 --graceful-timeout 1s")
        .wrapped_in([
            crate::common::running::pf_listen(),
            "-e",
            "nginx",
            "127.0.0.1:0",
            "127.0.0.1:0",
            "--",
        ])
        .start();
    for _ in 0..2 {
        service.ctl("upgrade --fork").succeeded();
        let (new, workers) = family(&service.status());
        assert_eq!(told(workers[0], "NGINX"), "3;4;");
        assert!(!process::environment(new).contains_key("NGINX"));
    }
    ends(&mut master);
    service.stop();
}

#[test]
fn u19_a_master_that_dies_leaves_no_socket() {
    let service = ForkService::new();
    service.scene.app(&format!("play '{ACK}; catch'"));
    let mut master = service
        .master(&format!("{OPTIONS} --listen 127.0.0.1:0"))
        .start();
    let old = master.pid();
    service.ctl("upgrade --fork --manual").succeeded();
    let (_, new) = service.both();
    let new = pid_of(&new);
    let both = acks(&service);
    assert_eq!(both.len(), 2, "{both:?}");
    process::signal(new, Signal::SIGKILL);
    service.assert_one_master(2);
    assert_eq!(acks(&service), [format!("app.{old}.ack")]);
    service.ctl("upgrade --fork --manual").succeeded();
    let (_, new) = service.both();
    process::signal(old, Signal::SIGKILL);
    service.assert_one_master(2);
    assert_eq!(acks(&service), [format!("app.{}.ack", pid_of(&new))]);
    let _ = master.status_at_end();
    service.stop();
}
