//! A worker that calls shutdown(2) or connect(2) on the listener that all share, and goes.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use nix::sys::signal::Signal;

use super::support::app;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{HANG, Master, Scene, process, until};

/// Slot 1 does it once, as soon as the file allows it: the process that removes the file does the
/// harm.
const SPOILER: &str = r#"if [ "$PF_WORKER" = 1 ] && mv spoil spoilt 2>/dev/null; then
    act 'shutdown; say spoilt'
fi
play serve"#;

/// Lets slot 1's next worker do it.
fn spoil(scene: &Scene, master: &Master) {
    std::fs::write(scene.path("spoil"), "").expect("written");
    process::signal(master.workers()[1], Signal::SIGKILL);
    scene.report("spoilt");
}

/// A worker answers there.
fn answers(path: &Path) -> Option<String> {
    let mut stream = UnixStream::connect(path).ok()?;
    stream.set_read_timeout(Some(HANG)).ok()?;
    stream.write_all(b"who\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    (!line.is_empty()).then_some(line)
}

#[test]
fn a_tcp_listener_that_was_shut_down_listens_again() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, SPOILER);
    let master = scene
        .master("-n 2 --ready notify --backoff 10ms..10ms --listen web=127.0.0.1:0")
        .start();
    let neighbour = master.workers()[0];
    for turn in 1..=3 {
        spoil(&scene, &master);
        until("it is told, by name", || {
            let told = master
                .log()
                .matches("listener web had been shut down")
                .count();
            (told == turn).then_some(())
        });
        master.until("whole again", |status| status["workers"]["ready"] == 2);
        for _ in 0..20 {
            master.dial().ask();
        }
    }
    let status = master.status();
    assert_eq!(status["generation"], 1, "no worker need know");
    assert_eq!(master.workers()[0], neighbour);
    master.stop();
    processes.gone();
}

#[test]
fn a_unix_listener_that_was_shut_down_starts_a_generation() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    app(&scene, SPOILER);
    let path = scene.path("app.sock");
    let listen = format!("local=unix:{},mode=0640", path.display());
    let master = scene
        .master("-n 2 --ready notify --backoff 10ms..10ms --listen 127.0.0.1:0")
        .option("--listen", &listen)
        .start();
    assert!(answers(&path).is_some());
    for generation in 2..=3 {
        spoil(&scene, &master);
        let status = master.until("rolled", |status| {
            status["generation"] == generation
                && status["state"] == "running"
                && status["workers"]["retiring"] == 0
        });
        assert_eq!(status["listeners"][1]["name"], "local");
        master.wait_for_log("listener local had been shut down");
        for _ in 0..20 {
            let answer = answers(&path).expect("an answer");
            assert_eq!(
                answer.split_whitespace().nth(1),
                Some(generation.to_string().as_str())
            );
            master.dial().ask();
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).expect("there").permissions(),
        );
        assert_eq!(mode & 0o7777, 0o640);
    }
    master.stop();
    processes.gone();
}

/// A new client sends a datagram and gets its answer.
fn echoes(scene: &Scene, master: &Master, client: u32) {
    let mut answer = [0; 16];
    let count = if let Some(port) = udp_port(master) {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a client");
        socket.set_read_timeout(Some(HANG)).expect("a limit");
        socket.send_to(b"who", ("127.0.0.1", port)).expect("sent");
        socket.recv(&mut answer).expect("an answer")
    } else {
        let path = scene.path(&format!("client{client}"));
        let socket = UnixDatagram::bind(path).expect("a client");
        socket.set_read_timeout(Some(HANG)).expect("a limit");
        let sent = socket.send_to(b"who", scene.path("app.sock"));
        sent.expect("sent");
        socket.recv(&mut answer).expect("an answer")
    };
    assert_eq!(&answer[..count], b"echo");
}

fn udp_port(master: &Master) -> Option<u16> {
    let status = master.status();
    let address = status["listeners"][0]["address"].as_str()?;
    let (_, port) = address.strip_prefix("udp:")?.rsplit_once(':')?;
    port.parse().ok()
}

#[test]
fn a_datagram_listener_that_was_connected_serves_all_again() {
    const CONNECTING: &str = r#"if [ "$PF_WORKER" = 1 ] && mv spoil spoilt 2>/dev/null; then
        act 'connect; say spoilt'
    fi
    act 'notify READY=1; echo'"#;
    for listen in ["web=udp:127.0.0.1:0", "web=udp:0", "web=unixgram:app.sock"] {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        app(&scene, CONNECTING);
        let master = scene
            .master("-n 2 --ready notify --backoff 10ms..10ms")
            .option("--listen", listen)
            .start();
        let neighbour = master.workers()[0];
        let port = udp_port(&master);
        for turn in 1..=2 {
            echoes(&scene, &master, turn);
            let _ = std::fs::remove_file(scene.path("say.client"));
            spoil(&scene, &master);
            until("it is told, by name", || {
                let told = master
                    .log()
                    .matches("listener web had been connected to one client")
                    .count();
                (told == turn as usize).then_some(())
            });
            master.until("whole again", |status| status["workers"]["ready"] == 2);
            for client in 1..=10 {
                echoes(&scene, &master, 10 * turn + client);
            }
        }
        assert_eq!(udp_port(&master), port);
        assert_eq!(master.status()["generation"], 1, "no worker need know");
        assert_eq!(master.workers()[0], neighbour);
        master.stop();
        processes.gone();
    }
}
