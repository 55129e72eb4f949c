//! What the accept queue is told of: how many wait, and for how long.

use std::net::TcpStream;
use std::process::Command;

use crate::common::service::master::address;
use crate::common::service::{Master, Scene, until};

fn shown(master: &Master, scene: &Scene, option: Option<&str>) -> String {
    assert!(!master.workers().is_empty());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pf-status"));
    command.arg(scene.path("app.pid")).args(option);
    let output = command.output().expect("pf-status starts");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn connections_that_wait_are_shown_with_the_time_of_the_oldest() {
    let scene = Scene::new();
    // These accept nothing.
    let options = "-n 1 --ready exec --listen web=127.0.0.1:0";
    let master = scene.master(options).command(["sleep", "1000"]).start();
    let at = address(&master.status(), 0);
    let metric = |text: &str| -> Option<f64> {
        let line = "pf_listener_wait_seconds{listener=\"web\"} ";
        let value = text.lines().find_map(|it| it.strip_prefix(line));
        value.map(|value| value.parse().expect("a number"))
    };
    assert_eq!(metric(&shown(&master, &scene, Some("--metrics"))), None);
    let _clients: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(at).expect("connected"))
        .collect();
    // A table has no more than whole milliseconds.
    until("it has waited", || {
        metric(&shown(&master, &scene, Some("--metrics"))).filter(|wait| *wait > 0.01)
    });
    let table = shown(&master, &scene, None);
    let row = table
        .lines()
        .find(|line| line.starts_with("web "))
        .expect("a row");
    let (_, queue) = row.split_once(" 3/").expect("three wait");
    let (_, wait) = queue.split_once(" for ").expect("a time");
    humantime::parse_duration(wait.trim()).expect("a duration");
    // The document is the master's, which does not ask for that.
    assert!(!shown(&master, &scene, Some("--json")).contains("wait\""));
    master.stop();
}
