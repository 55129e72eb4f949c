//! Descriptors that are no listeners, that are too many, or that come with another line.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::{control_of, free, give};
use crate::common::service::process::descriptors;
use crate::common::service::{Control, Scene, control::error, until};
use crate::common::support::service::{Service, Worker};

/// Sends bytes with descriptors.
fn send(control: &Control, text: &str, fds: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let part = [IoSlice::new(text.as_bytes())];
    let socket = control.stream.as_raw_fd();
    let sent = sendmsg::<()>(socket, &part, rights, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(text.len()));
}

fn add(control: &mut Control, fds: &[RawFd]) -> Value {
    send(control, "{\"cmd\":\"add-fds\"}\n", fds);
    control.reply()
}

fn stream_that_does_not_listen() -> OwnedFd {
    let kind = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).expect("a socket");
    socket.into()
}

#[test]
fn p5_what_is_no_listener_is_refused_and_closed() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --listen tcp:127.0.0.1:0").start();
    let mut control = master.control();
    // Then the master has accepted this client, and closed those before.
    assert_eq!([control.status(), control.status()].len(), 2);
    let before = descriptors(master.pid());
    let (pipe, _write) = nix::unistd::pipe().expect("a pipe");
    let file = File::open("/dev/null").expect("open");
    let stream = stream_that_does_not_listen();
    let bound = TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = bound.local_addr().expect("an address");
    let connection = std::net::TcpStream::connect(at).expect("connected");
    let unbound = UnixDatagram::unbound().expect("a socket");
    let connected = UdpSocket::bind("127.0.0.1:0").expect("bound");
    connected.connect(at).expect("connected");
    for (fd, why) in [
        (pipe.as_raw_fd(), "it is not a socket"),
        (file.as_raw_fd(), "it is not a socket"),
        (stream.as_raw_fd(), "does not listen"),
        (connection.as_raw_fd(), "does not listen"),
        (unbound.as_raw_fd(), "the socket is bound to no address"),
        (connected.as_raw_fd(), "is connected"),
    ] {
        // Also a right one beside it is not taken.
        let reply = add(&mut control, &[bound.as_raw_fd(), fd]);
        let (code, message) = error(&reply);
        assert_eq!(code, "refused");
        let wanted = "descriptor 2 of the request is no listener: ";
        assert!(
            message.starts_with(wanted) && message.ends_with(why),
            "{message}"
        );
    }
    let reply = add(&mut control, &[]);
    let none = (
        "usage".to_owned(),
        "no descriptor came with the request".to_owned(),
    );
    assert_eq!(error(&reply), none);
    let names = "{\"cmd\":\"add-fds\",\"names\":[\"a\",\"b\"]}\n";
    send(&control, names, &[bound.as_raw_fd()]);
    let (code, message) = error(&control.reply());
    assert_eq!(code, "usage");
    assert_eq!(message, "the request names 2 listeners, and 1 came with it");
    send(
        &control,
        "{\"cmd\":\"add-fds\",\"names\":[\"a b\"]}\n",
        &[bound.as_raw_fd()],
    );
    let (_, message) = error(&control.reply());
    assert_eq!(message, "'a b' is not a listener's name");
    let after = descriptors(master.pid());
    assert_eq!(after, before);
    assert_eq!(master.status()["generation"], 1);
    master.stop();
}

#[test]
fn p5_descriptors_that_no_line_mentions_are_closed() {
    let scene = Scene::new();
    let master = scene.master("-n 1 --listen tcp:127.0.0.1:0").start();
    let mut control = master.control();
    // Then the master has accepted this client, and closed those before.
    assert_eq!([control.status(), control.status()].len(), 2);
    let before = descriptors(master.pid());
    let bound = TcpListener::bind("127.0.0.1:0").expect("bound");
    let more = TcpListener::bind("127.0.0.1:0").expect("bound");
    let fds = [bound.as_raw_fd(), more.as_raw_fd()];
    send(&control, "{\"cmd\":\"status\"}\n", &fds);
    assert_eq!(control.reply()["ok"], true);
    assert_eq!(descriptors(master.pid()), before);
    // With a line of which the end comes later, and with one that makes no sense.
    send(&control, "{\"cmd\":", &fds);
    send(&control, "\"listeners\"}\n", &fds);
    assert_eq!(control.reply()["ok"], true);
    send(&control, "nonsense\n", &fds);
    assert_eq!(control.reply()["ok"], false);
    assert_eq!(descriptors(master.pid()), before);
    // A line before the one that mentions them does not take them away from it; and one that comes
    // in pieces has all of them. What it does not name is closed.
    send(&control, "{\"cmd\":\"status\"}\n", &[]);
    send(&control, "{\"cmd\":\"add-fds\",", &fds[..1]);
    send(&control, "\"names\":[\"one\"]}\n", &fds[1..]);
    assert_eq!(control.reply()["ok"], true);
    let reply = control.reply();
    assert_eq!(reply["ok"], json!(true), "{reply}");
    let status = control.status();
    let listeners = status["listeners"].as_array().expect("an array");
    assert_eq!(listeners.len(), 2, "{status:#}");
    assert_eq!(listeners[1]["name"], "one");
    drop(more);
    master.stop();
}

#[test]
fn p5_a_listener_that_the_workers_could_not_have_is_refused() {
    let scene = Scene::new();
    let listen = "-n 1 --listen tcp:127.0.0.1:0 --keep-fd 4";
    let master = scene
        .master(listen)
        .wrapped_in(["sh", "-c", "exec \"$@\" 4</dev/null", "sh"])
        .start();
    let mut control = master.control();
    let bound = TcpListener::bind("127.0.0.1:0").expect("bound");
    let (code, message) = error(&add(&mut control, &[bound.as_raw_fd()]));
    assert_eq!(code, "refused");
    let wanted = "--keep-fd 4 is in the way: the listeners would take fds 3 to 4 of the workers";
    assert_eq!(message, wanted);
    master.stop();
    let master = scene
        .master("-n 1 --export server-starter --listen tcp:127.0.0.1:0")
        .start();
    let mut control = master.control();
    let unix = std::os::unix::net::UnixListener::bind(scene.path("a;b")).expect("bound");
    let (code, message) = error(&add(&mut control, &[unix.as_raw_fd()]));
    assert_eq!(code, "refused");
    assert!(
        message.contains("SERVER_STARTER_PORT cannot hold"),
        "{message}"
    );
    assert_eq!(master.status()["generation"], 1);
    master.stop();
}

#[test]
fn p5_without_a_listener_to_give_or_to_take_it_is_refused() {
    let options = ["-n", "1", "--ready", "notify"];
    let service = Service::start(&options, &Worker::hello());
    let pid_file = service.path("app.pid");
    let ctl = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
        command.arg(words[0]).arg(&pid_file).args(&words[1..]);
        let output = command.output().expect("pf-ctl starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = ctl(&["add-fds"]);
    assert_eq!(code, Some(6), "{text}");
    let hint = "run it under pf-listen: pf-listen ADDRESS -- pf-ctl add-fds TARGET";
    assert!(text.contains(hint), "{text}");
    assert_eq!(ctl(&["take-fds", "--", "/no/such/program"]).0, Some(127));
    assert_eq!(ctl(&["take-fds", "--", "/"]).0, Some(126));
    assert_eq!(ctl(&["take-fds"]).0, Some(2));
    assert_eq!(ctl(&["listeners", "--no-wait"]).0, Some(2));
    // During another rollout it is busy, and the listener does not stay.
    let at = free();
    let mut control = control_of(&pid_file);
    let command = ["sleep", "1000"];
    control.request(&json!({"cmd": "reload", "wait": false, "command": command}));
    let bound = TcpListener::bind(at).expect("free");
    let busy = add(&mut control, &[bound.as_raw_fd()]);
    assert_eq!(busy["ok"], true, "{busy}");
    let (code, message) = error(&control.reply());
    assert_eq!(code, "busy", "{message}");
    drop(bound);
    service.ctl(["rollback"]);
    super::refuses(&service, at);
    let (code, text) = give(&service, &["fd:0"]);
    assert_ne!(code, Some(0), "{text}");
    service.stop();
}

#[test]
fn who_does_not_read_the_listeners_that_it_asked_for_gets_no_end_of_them() {
    let scene = Scene::new();
    let options = "-n 1 --ready exec --listen 127.0.0.1:0,copies=50";
    let master = scene.master(options).command(["sleep", "1000"]).start();
    let open = || descriptors(master.pid()).len();
    let before = open();
    let mut deaf = master.control();
    // The last one shows when all have been obeyed.
    let requests = "{\"cmd\": \"take-fds\"}\n".repeat(400) + "{\"cmd\":\"scale\",\"workers\":2}\n";
    deaf.stream.write_all(requests.as_bytes()).expect("sent");
    master.until("all are obeyed", |status| status["workers"]["wanted"] == 2);
    let most = open();
    assert!(most <= before + 1_100, "{before} {most}");
    let answers: Vec<Value> = (0..400).map(|_| deaf.reply()).collect();
    let refused = answers.iter().filter(|answer| answer["ok"] == false);
    let refused: Vec<_> = refused.map(error).collect();
    assert!(!refused.is_empty() && refused.iter().all(|(code, _)| *code == "busy"));
    drop(deaf);
    // One more worker has some of its own.
    until("they are closed", || (open() <= before + 10).then_some(()));
    master.stop();
}

#[test]
fn a_listener_that_a_holder_keeps_open_is_not_removed() {
    let service = Service::held(&["-n", "1"], &Worker::hello());
    let address = format!("tcp:{}", service.tcp());
    let (code, text) = service.try_ctl(["listeners", "--remove", &address]);
    assert_eq!(code, Some(6), "{text}");
    assert!(text.contains("stays open in pf-listen --hold"), "{text}");
    assert_eq!(service.status().listeners.len(), 2);
    service.stop();
}
