//! This test binary as a worker, executed by a script's `act`: it beats, hangs, and does harm.
//!
//! `PF_TEST_ACT` holds the steps, separated by `;`. It exits 0 after the last step.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, UNIX_EPOCH};

use nix::libc;
use nix::sys::signal::{Signal, raise};
use prefork::sys::listener;
use prefork::sys::machine::clock;
use socket2::Socket;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

#[test]
fn act() {
    let script = variable("PF_TEST_ACT");
    for step in script
        .split(';')
        .map(str::trim)
        .filter(|step| !step.is_empty())
    {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "say" => say(rest),
            "notify" => notify(rest),
            "beat" => beat(rest, 1),
            "beating" => beating(rest),
            "deaf" => deaf(),
            "hang" => hang(),
            "stop" => raise(Signal::SIGSTOP).expect("stopped"),
            "hoard" => hoard(rest.parse().expect("a number")),
            "shutdown" => shut_down(),
            "connect" => connect(),
            "echo" => echo(),
            _ => panic!("no such step: {step}"),
        }
    }
}

/// Reports as the scripts' `say` does.
fn say(text: &str) {
    let mut fifo = OpenOptions::new()
        .write(true)
        .open(variable("PF_TEST_SAY"))
        .expect("the fifo");
    let (slot, generation) = (variable("PF_WORKER"), variable("PF_GENERATION"));
    fifo.write_all(format!("{text} {slot} {generation} {}\n", std::process::id()).as_bytes())
        .expect("said");
}

fn notify(text: &str) {
    let address = variable("NOTIFY_SOCKET");
    let name = address.strip_prefix('@').expect("an abstract address");
    let address = SocketAddr::from_abstract_name(name).expect("an address");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket
        .send_to_addr(text.as_bytes(), &address)
        .expect("sent");
}

fn page() -> File {
    let path = format!("/proc/self/fd/{}", variable("PF_HEARTBEAT_FD"));
    let page = OpenOptions::new().read(true).write(true).open(path);
    page.expect("the page")
}

/// One beat of this kind; the `count`th.
fn beat(kind: &str, count: u64) {
    match kind {
        "counter" => page()
            .write_all_at(&count.to_ne_bytes(), 8)
            .expect("written"),
        "fchmod" => {
            let mode = if count.is_multiple_of(2) {
                0o600
            } else {
                0o400
            };
            // Open for reading: at 0400 no other way is left but for root.
            let path = format!("/proc/self/fd/{}", variable("PF_HEARTBEAT_FD"));
            let page = File::open(path).expect("the page");
            page.set_permissions(PermissionsExt::from_mode(mode))
                .expect("changed");
        }
        "futimens" => {
            let at = UNIX_EPOCH + Duration::from_secs(1_000_000 + count);
            page().set_modified(at).expect("touched");
        }
        "watchdog" => notify("WATCHDOG=1"),
        _ => panic!("no such beat: {kind}"),
    }
}

/// Beats for ever: `KIND MILLISECONDS`.
fn beating(how: &str) {
    let (kind, pace) = how.split_once(' ').expect("a kind and a pace");
    let pace = Duration::from_millis(pace.parse().expect("milliseconds"));
    for count in 1.. {
        beat(kind, count);
        clock::pause(pace);
    }
}

/// Tells of ABRT, and goes on.
fn deaf() {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGABRT]).expect("a handler");
    say("deaf");
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is forked from this process"
    )]
    std::thread::spawn(move || {
        for _ in signals.forever() {
            say("got ABRT");
        }
    });
}

fn hang() {
    loop {
        clock::pause(Duration::from_secs(3600));
    }
}

/// Maps this many GiB and touches few pages, so that a core dump takes time.
fn hoard(gibibytes: usize) {
    let mut hoard = Vec::new();
    for _ in 0..gibibytes {
        let mut part: Vec<u8> = Vec::new();
        if part.try_reserve_exact(1 << 30).is_err() {
            say("poor");
            return;
        }
        part.push(1);
        hoard.push(part);
    }
    std::mem::forget(hoard);
    say("rich");
}

fn listeners() -> Vec<listener::Listener> {
    let count = variable("LISTEN_FDS").parse().expect("a count");
    listener::inherit_listen_fds(count, &[]).expect("listeners")
}

/// Connects the datagram socket to a client that is there no more when anybody looks.
fn connect() {
    for listener in listeners() {
        let socket = Socket::from(listener.fd);
        let own = socket.local_addr().expect("bound");
        if let Some(own) = own.as_socket() {
            let client = std::net::UdpSocket::bind(("127.0.0.1", 0)).expect("a client");
            assert_ne!(client.local_addr().expect("bound"), own);
            let at = client.local_addr().expect("bound");
            socket.connect(&at.into()).expect("connected");
        } else {
            let path = format!("{}.client", variable("PF_TEST_SAY"));
            let client = UnixDatagram::bind(&path).expect("a client");
            let at = socket2::SockAddr::unix(&path).expect("short");
            socket.connect(&at).expect("connected");
            std::mem::forget(client);
        }
    }
}

/// Sends each datagram of the first listener back, for ever.
fn echo() {
    let listener = listeners().swap_remove(0);
    let socket = Socket::from(listener.fd);
    loop {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            // A client that is gone already is its own business.
            let _ = socket.send_to(b"echo", &from);
        }
    }
}

/// Shuts every listener down for all who share it.
fn shut_down() {
    for listener in listeners() {
        // Some socket types return ENOTCONN from shutdown(2) without a peer, and are shut down all
        // the same.
        let _ = Socket::from(listener.fd).shutdown(std::net::Shutdown::Both);
    }
}
