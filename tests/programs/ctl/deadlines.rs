//! Nothing waits longer than its timeout.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use prefork::sys::machine::clock;
use serde_json::json;
use socket2::{Domain, SockAddr, Socket, Type};
use std::os::fd::AsRawFd;

use super::fake::{Scene, ctl};

/// What a `pf-ctl` may need beyond its `--timeout`, on a busy machine.
const SLACK: Duration = Duration::from_secs(30);

#[test]
fn a_timeout_is_exit_5_with_a_hint() {
    let scene = Scene::new();
    let master = scene.play(|mut peer| {
        peer.request();
        peer.say("{\"event\":\"progress\",\"op\":7,\"done\":0,\"total\":4,\"message\":\"\"}\n");
        peer.until_left();
    });
    let control = scene.control();
    let begun = clock::now();
    let ended = ctl([
        "reload".as_ref(),
        control.as_os_str(),
        "--timeout".as_ref(),
        "5s".as_ref(),
    ]);
    let took = clock::now().since(begun);
    let target = control.display();
    ended.failed(
        5,
        &format!(
            "reload: not finished after 5s (operation 7 goes on: pf-ctl wait {target} --op 7)"
        ),
    );
    assert!(took >= Duration::from_secs(5) && took < SLACK, "{took:?}");
    master.end();
}

#[test]
fn waiting_for_an_operation_knows_its_number_from_the_start() {
    let scene = Scene::new();
    let master = scene.play(|mut peer| {
        let request = peer.request();
        peer.until_left();
        request
    });
    let control = scene.control();
    ctl([
        "wait".as_ref(),
        control.as_os_str(),
        "--op=31".as_ref(),
        "--timeout=4s".as_ref(),
    ])
    .failed(5, "operation 31 goes on");
    assert_eq!(master.end(), json!({"cmd": "wait", "op": "31"}));
}

#[test]
fn a_silent_master_is_exit_5() {
    let scene = Scene::new();
    let master = scene.play(|mut peer| {
        peer.request();
        peer.until_left();
    });
    let control = scene.control();
    ctl([
        "listeners".as_ref(),
        control.as_os_str(),
        "--timeout".as_ref(),
        "4s".as_ref(),
    ])
    .failed(5, "not finished after 4s: the master does not answer");
    master.end();
}

#[test]
fn a_master_that_does_not_accept_is_exit_5() {
    let scene = Scene::new();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    listener
        .bind(&SockAddr::unix(scene.control()).expect("an address"))
        .expect("bind");
    listener.listen(0).expect("listen");
    let _queued = fill_backlog(&scene);

    let control = scene.control();
    let begun = clock::now();
    ctl([
        "reload".as_ref(),
        control.as_os_str(),
        "--timeout".as_ref(),
        "200ms".as_ref(),
    ])
    .failed(5, "the master does not accept connections");
    assert!(clock::now().since(begun) < SLACK);
}

/// Connects until the next one would have to wait.
fn fill_backlog(scene: &Scene) -> Vec<UnixStream> {
    let address = UnixAddr::new(&scene.control()).expect("an address");
    let mut queued = Vec::new();
    loop {
        let fd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_NONBLOCK,
            None,
        )
        .expect("a socket");
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => queued.push(UnixStream::from(fd)),
            Err(Errno::EAGAIN) => return queued,
            Err(errno) => panic!("connect: {errno}"),
        }
    }
}

#[test]
fn waiting_for_a_master_to_appear_is_bounded() {
    let scene = Scene::new();
    let ended = ctl([
        "wait".as_ref(),
        scene.pid_file().as_os_str(),
        "--ready".as_ref(),
        "--timeout=60ms".as_ref(),
        "-q".as_ref(),
    ]);
    ended.failed(3, "no master has appeared in time: there is no ");
    let ended = ctl([
        "wait".as_ref(),
        scene.pid_file().as_os_str(),
        "--ready".as_ref(),
        "--appear=60ms".as_ref(),
        "-q".as_ref(),
    ]);
    ended.failed(3, "--appear DURATION waits longer");
    // Once it has appeared, the time of --timeout is what counts.
    let _master = std::os::unix::net::UnixListener::bind(scene.control()).expect("a socket");
    ctl([
        "wait".as_ref(),
        scene.control().as_os_str(),
        "--ready".as_ref(),
        "--appear=60ms".as_ref(),
        "--timeout=300ms".as_ref(),
        "-q".as_ref(),
    ])
    .failed(5, "not finished after 300ms");
}

#[test]
fn a_timeout_of_nothing_is_passed_at_once() {
    let scene = Scene::new();
    let holder = std::os::unix::net::UnixListener::bind(scene.control()).expect("a control socket");
    ctl([
        "reload".as_ref(),
        scene.control().as_os_str(),
        "--timeout".as_ref(),
        "0s".as_ref(),
    ])
    .failed(5, "after 0s");
    drop(holder);
}
