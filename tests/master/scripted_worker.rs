//! This test binary as a worker, executed by a script's `play` or `helper`.
//!
//! `PF_TEST_PLAY` holds the steps, separated by `;`. It exits 0 after the last step.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::Socket;

use prefork::sys::listener;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn own() -> String {
    format!(
        "{} {} {}",
        variable("PF_WORKER"),
        variable("PF_GENERATION"),
        std::process::id()
    )
}

fn say(text: &str) {
    let mut fifo = std::fs::OpenOptions::new()
        .write(true)
        .open(variable("PF_TEST_SAY"))
        .expect("the fifo");
    fifo.write_all(format!("{text} {}\n", own()).as_bytes())
        .expect("said");
}

/// The role of the worker; without `PF_TEST_PLAY` it does nothing.
#[test]
fn play() {
    let Ok(script) = std::env::var("PF_TEST_PLAY") else {
        return;
    };
    for step in script
        .split(';')
        .map(str::trim)
        .filter(|step| !step.is_empty())
    {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "say" => say(rest),
            "ready" => notify("READY=1"),
            "notify" => notify(&rest.replace('|', "\n")),
            "barrier" => barrier(),
            "beat" => beat(),
            "count" => count(rest),
            "einhorn" => einhorn(rest),
            "exit" => exit(rest),
            "catch" => catch(rest),
            "serve" => serve(rest),
            _ => panic!("no such step: {step}"),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::exit,
    reason = "the exit code is what the step is about"
)]
fn exit(code: &str) {
    std::process::exit(code.parse().expect("a code"));
}

fn manager() -> SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    let address = variable("NOTIFY_SOCKET");
    let name = address.strip_prefix('@').expect("an abstract address");
    SocketAddr::from_abstract_name(name).expect("an address")
}

fn notify(text: &str) {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket
        .send_to_addr(text.as_bytes(), &manager())
        .expect("sent");
}

/// Sends `BARRIER=1` with a pipe's end, and reports once the master has closed it.
fn barrier() {
    let (read, write) = nix::unistd::pipe().expect("a pipe");
    let socket = UnixDatagram::unbound().expect("a socket");
    let address = variable("NOTIFY_SOCKET");
    let address =
        UnixAddr::new_abstract(address.trim_start_matches('@').as_bytes()).expect("an address");
    let fds = [write.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let text = [std::io::IoSlice::new(b"BARRIER=1")];
    sendmsg(
        socket.as_raw_fd(),
        &text,
        &rights,
        MsgFlags::empty(),
        Some(&address),
    )
    .expect("sent");
    drop(write);
    poll(&mut [PollFd::new(&read, PollFlags::IN)], None).expect("poll");
    say("barrier");
}

/// Sends a line to einhorn's socket, with `PID` replaced by our pid; reports `answered` if there is
/// an answer.
fn einhorn(text: &str) {
    use std::io::Read;
    let mut socket = UnixStream::connect(variable("EINHORN_SOCK_PATH")).expect("a socket");
    let text = text.replace("PID", &std::process::id().to_string());
    socket
        .write_all(format!("{text}\n").as_bytes())
        .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an end");
    if !answer.is_empty() {
        say("answered");
    }
}

fn page() -> std::fs::File {
    let path = format!("/proc/self/fd/{}", variable("PF_HEARTBEAT_FD"));
    let page = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    page.expect("the page")
}

/// Writes how many requests were finished and how many connections there were so far.
fn count(numbers: &str) {
    use std::os::unix::fs::FileExt;
    for (number, offset) in numbers.split(' ').zip([24, 40]) {
        let number: u64 = number.parse().expect("a number");
        let written = page().write_all_at(&number.to_ne_bytes(), offset);
        written.expect("written");
    }
}

/// Raises the beat counter of the heartbeat page.
fn beat() {
    use std::os::unix::fs::FileExt;
    let page = page();
    let mut counter = [0; 8];
    page.read_exact_at(&mut counter, 8).expect("read");
    page.write_all_at(&(u64::from_ne_bytes(counter) + 1).to_ne_bytes(), 8)
        .expect("written");
}

/// Reports every signal as `got NAME`. TERM, INT and QUIT end it, unless it is `stubborn`.
fn catch(how: &str) {
    use nix::libc;
    let all = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
    ];
    let mut signals = signal_hook::iterator::Signals::new(all).expect("handlers");
    say("catching");
    if how.contains("ready") {
        notify("READY=1");
    }
    for signal in signals.forever() {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("?");
        say(&format!("got {}", name.trim_start_matches("SIG")));
        if matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
            && !how.contains("stubborn")
        {
            return;
        }
    }
}

/// Serves until TERM, then closes its listeners (unless told to `keep` them), finishes its
/// connections, and ends. With `stopping` it sends `STOPPING=1`.
///
/// As a program that does harm: with `drop` it accepts one more client after TERM, and leaves it
/// without an answer; with `shut` it shuts its listeners down after TERM and stays. With `other`
/// its answers are other ones, with `mute` there are none.
fn serve(how: &str) {
    let (end, told) = UnixStream::pair().expect("a pair");
    signal_hook::low_level::pipe::register(nix::libc::SIGTERM, told).expect("a handler");
    let count = variable("LISTEN_FDS").parse().expect("a count");
    let inherited = listener::inherit_listen_fds(count, &[]).expect("listeners");
    let mut listeners: Vec<Socket> = inherited
        .into_iter()
        .map(|listener| Socket::from(listener.fd))
        .collect();
    for listener in &listeners {
        // The flag is shared by all processes that share the socket, and all of them expect it.
        listener.set_nonblocking(true).expect("set");
    }
    notify("READY=1");
    let mut busy = Vec::new();
    loop {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&end, PollFlags::IN)];
        fds.extend(
            listeners
                .iter()
                .map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)),
        );
        if poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {
            continue;
        }
        if !fds[0].revents().is_empty() {
            break;
        }
        busy.extend(
            listeners
                .iter()
                .filter_map(|listener| listener.accept().ok())
                .map(|(socket, _)| answer(socket, how.to_owned())),
        );
    }
    if how.contains("drop") {
        drop_a_client(&listeners);
    }
    if how.contains("shut") {
        for listener in &listeners {
            listener
                .shutdown(std::net::Shutdown::Both)
                .expect("shut down");
        }
        // Until it is killed; a signal ends no wait.
        while poll(&mut [], None).is_err() {}
    }
    if how.contains("stopping") {
        notify("STOPPING=1");
    }
    if !how.contains("keep") {
        listeners.clear();
    }
    say("draining");
    for connection in busy {
        connection.join().expect("a connection's end");
    }
}

/// Accepts one more client, hears it, and closes the connection.
fn drop_a_client(listeners: &[Socket]) {
    loop {
        let listener = PollFd::from_borrowed_fd(listeners[0].as_fd(), PollFlags::IN);
        let _ = poll(&mut [listener], None);
        if let Ok((client, _)) = listeners[0].accept() {
            client.set_nonblocking(false).expect("set");
            let mut line = String::new();
            let _ = BufReader::new(client).read_line(&mut line);
            return;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing is forked from this process"
)]
fn answer(socket: Socket, how: String) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        socket.set_nonblocking(false).expect("set");
        let mut out = socket.try_clone().expect("a copy");
        for _line in BufReader::new(socket).lines().map_while(Result::ok) {
            let text = match how.as_str() {
                "mute" => return,
                "other" => format!("other {}\n", own()),
                _ => format!("{}\n", own()),
            };
            // A client that has left is no error.
            let _ = out.write_all(text.as_bytes());
        }
    })
}
