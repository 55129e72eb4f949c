//! Listeners that come and go while the service runs: `add-fds`, `listeners --remove`, `take-fds`.

mod changes;
mod many;
mod refused;
mod taken;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::load::{Target, request};
use crate::common::service::Control;
use crate::common::support::ports;
use crate::common::support::service::Service;

/// A free port that no other test takes.
fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports(1)))
}

/// `pf-listen ADDRESS... -- pf-ctl add-fds FILE`: the exit code, and what it said.
fn give(service: &Service, addresses: &[&str]) -> (Option<i32>, String) {
    let mut chain = Command::new(env!("CARGO_BIN_EXE_pf-listen"));
    chain.args(addresses);
    chain.args(["--", env!("CARGO_BIN_EXE_pf-ctl"), "add-fds"]);
    let output = chain.arg(service.path("app.pid")).output();
    let output = output.expect("pf-listen starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[track_caller]
fn gives(service: &Service, addresses: &[&str]) {
    let (code, text) = give(service, addresses);
    assert_eq!(code, Some(0), "{addresses:?}: {text}\n{}", service.log());
}

/// A client is answered here.
#[track_caller]
fn serves(service: &Service, at: &Target) {
    let answered = request(at, "one");
    assert_eq!(answered, Ok(()), "{at:?}\n{}", service.log());
}

/// The kernel refuses clients here: no process has the socket open.
#[track_caller]
fn refuses(service: &Service, at: SocketAddr) {
    let refused = std::net::TcpStream::connect(at).map(drop);
    let error = refused.expect_err("it refuses");
    let kind = std::io::ErrorKind::ConnectionRefused;
    assert_eq!(error.kind(), kind, "{}", service.log());
}

/// The events of a service that are about listeners, until so many rollouts have ended: kind, name,
/// address.
fn listener_events(service: &Service, mut rollouts: usize) -> Vec<(String, Value, String)> {
    let mut control = Control::connect(&service.path("app.ctl")).expect("a master");
    control
        .send("{\"cmd\":\"events\",\"since\":0}\n")
        .expect("sent");
    let mut events = Vec::new();
    while rollouts > 0 {
        let line = control.line().expect("a line");
        let kind = line["event"].as_str().expect("an event");
        rollouts -= usize::from(kind == "rollout-done" || kind == "rollout-failed");
        if kind.starts_with("listener-") {
            let address = line["address"].as_str().expect("an address");
            events.push((kind.into(), line["name"].clone(), address.into()));
        }
    }
    events
}

/// Where the master of this pid file is asked.
fn control_of(pid_file: &Path) -> Control {
    Control::connect(&pid_file.with_extension("ctl")).expect("a master")
}
