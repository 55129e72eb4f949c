//! Five hundred control clients, most of them ill: those that are well are answered (P4, R65).

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Control, Scene, until};

/// What comes from those who do not know what this socket is for.
const GARBAGE: [&[u8]; 6] = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"{\"cmd\": \"status\", \"id\": }\n",
    b"\0\0\0\0\xff\xfe\n\n\n[[[[[[[[[[",
    b"{\"cmd\": \"no such\"}\n",
    b"{\"cmd\": 7, \"workers\": {}}\n",
    &[b'x'; 40_000],
];

/// A client that sends garbage whenever it can, reads the replies, and reconnects when it is
/// dropped.
struct Babbler {
    stream: UnixStream,
    turn: usize,
}

impl Babbler {
    fn connect(path: &Path) -> Option<Babbler> {
        let stream = UnixStream::connect(path).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Babbler { stream, turn: 0 })
    }

    /// False if it was thrown out.
    fn babble(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let heard = self.stream.read(&mut chunk);
        self.turn += 1;
        let said = self.stream.write(GARBAGE[self.turn % GARBAGE.len()]);
        let lives = |result: &std::io::Result<usize>| match result {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        lives(&said) && lives(&heard) && !matches!(heard, Ok(0))
    }
}

fn babble_until(over: &AtomicBool, path: &Path, babblers: &mut [Babbler]) {
    let mut rounds = 0;
    while rounds < 2 || !over.load(Ordering::Relaxed) {
        for babbler in babblers.iter_mut() {
            if !babbler.babble()
                && let Some(other) = Babbler::connect(path)
            {
                *babbler = other;
            }
        }
        rounds += 1;
        // As fast as the master reads, which uses one of two processors up.
        prefork::sys::machine::clock::pause(std::time::Duration::from_micros(200));
    }
}

#[test]
fn p4_r65_of_five_hundred_clients_those_that_ask_are_answered() {
    // Both ends of a connection and its reader are in this process alone.
    prefork::sys::machine::limits::raise_nofile();
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene.master("-n 2 --ready fd=9").start();
    let path = scene.path("app.ctl");
    let stalled: Vec<Control> = (0..400)
        .map(|number| {
            let mut control = master.control();
            let beginning = &br#"{"cmd": "status", "id": 4}"#[..=number % 25];
            control.send(beginning).expect("sent");
            control
        })
        .collect();
    let mut babblers: Vec<Babbler> = (0..50)
        .map(|_| Babbler::connect(&path).expect("a connection"))
        .collect();
    let mut asking: Vec<Control> = (0..50).map(|_| master.control()).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let babbling = scope.spawn(|| babble_until(&over, &path, &mut babblers));
        // Also when a check here fails, the other side must learn that the test is over.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let reload = master.start_ctl("reload --timeout 60s");
            for (id, control) in asking.iter_mut().enumerate() {
                let reply = control.ask(&json!({"cmd": "status", "id": id}));
                assert_eq!((&reply["ok"], &reply["id"]), (&true.into(), &id.into()));
            }
            reload.end().succeeded();
            // All at the same moment, too.
            for (id, control) in asking.iter_mut().enumerate() {
                control.request(&json!({"cmd": "status", "id": id}));
            }
            for (id, control) in asking.iter_mut().enumerate() {
                let reply = control.reply();
                assert_eq!((&reply["ok"], &reply["id"]), (&true.into(), &id.into()));
                assert_eq!(reply["status"]["generation"], 2);
            }
        }));
        over.store(true, Ordering::Relaxed);
        babbling.join().expect("it babbled");
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    drop(babblers);
    // A client that never ends its line gets an error and is disconnected.
    for mut control in stalled {
        let reply = control.reply();
        assert_eq!(reply["ok"], false, "{reply}");
        assert_eq!(control.line(), None);
    }
    drop(asking);
    let few = || crate::common::service::process::descriptors(master.pid()).len() < 40;
    until("all are forgotten", || few().then_some(()));
    assert!(!master.log().contains("panicked"), "{}", master.log());
    master.stop();
    processes.gone();
}

#[test]
fn p4_a_line_that_comes_byte_by_byte_is_answered() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene.master("-n 1 --ready fd=9").start();
    let mut control = master.control();
    for (place, byte) in br#"{"cmd": "status", "id": 4}"#.iter().enumerate() {
        control.stream.write_all(&[*byte]).expect("sent");
        // Others are served in between; a few, as a line has five seconds to come.
        if place % 6 == 0 {
            assert_eq!(master.status()["state"], "running");
        }
    }
    control.send("\n").expect("sent");
    assert_eq!(control.reply()["id"], 4);
    drop(control);
    master.stop();
    processes.gone();
}
