//! Tests of the control socket and its connections.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{UnixAddr, connect};

use super::connection::{BATCH_BYTES, CHUNK, MAX_UNSENT};
use super::socket::{BACKLOG, stream_socket};
use super::*;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;
use crate::sys::testing::{Peer, Talk};
use crate::wire::control::MAX_REQUEST;

fn bound(path: &Path) -> ControlSocket {
    ControlSocket::bind(path, 0o600, None, None).expect("bound")
}

fn pair(socket: &ControlSocket) -> (UnixStream, Conn) {
    let client = UnixStream::connect(socket.path()).expect("connected");
    let conn = socket.accept().expect("accepted").expect("a client");
    (client, conn)
}

fn line(text: &str) -> Input {
    Input::Line(text.as_bytes().to_vec())
}

fn mode(path: &Path) -> u32 {
    let found = fs::symlink_metadata(path).expect("there");
    found.permissions().mode() & 0o7777
}

#[test]
fn p1_the_socket_has_the_mode_asked_for_and_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.ctl");
    let socket = bound(&path);
    assert_eq!(mode(&path), 0o600);
    assert!(socket.accept().expect("no client").is_none());
    let (_client, conn) = pair(&socket);
    let own = i32::try_from(std::process::id()).expect("a pid");
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    assert_eq!(conn.peer(), (own, uid.as_raw(), gid.as_raw()));
    for fd in [socket.fd(), conn.fd()] {
        let flags = rustix::io::fcntl_getfd(fd).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let flags = rustix::fs::fcntl_getfl(fd).expect("flags");
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    }
    socket.remove().expect("removed");
    assert!(!path.exists());
    let open = ControlSocket::bind(&path, 0o666, None, None).expect("bound");
    assert_eq!(mode(&path), 0o666, "the umask has no effect");
    drop(open);
}

#[test]
fn owner_and_group_are_set() {
    if !nix::unistd::getuid().is_root() {
        return crate::sys::testing::skip("only root can give files away");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.ctl");
    let _socket = ControlSocket::bind(&path, 0o660, Some(65534), Some(1)).expect("bound");
    let found = fs::symlink_metadata(&path).expect("there");
    assert_eq!((found.uid(), found.gid(), mode(&path)), (65534, 1, 0o660));
}

#[test]
fn p8_a_live_server_keeps_its_path_and_a_dead_one_loses_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.ctl");
    let socket = bound(&path);
    // Also with a full queue: the probe does not wait.
    let waiting: Vec<_> = (0..=BACKLOG)
        .map(|_| {
            let client = stream_socket().expect("a socket");
            let _ = connect(client.as_raw_fd(), &UnixAddr::new(&path).expect("short"));
            client
        })
        .collect();
    let error = ControlSocket::bind(&path, 0o600, None, None).expect_err("in use");
    assert!(
        error.to_string().contains("Address already in use"),
        "{error}"
    );
    drop((socket, waiting));
    let next = bound(&path);
    pair(&next);
    // A socket of another process at the path is not removed.
    fs::remove_file(&path).expect("removed");
    let other = UnixListener::bind(&path).expect("bound");
    next.remove().expect("nothing to do");
    assert!(path.exists());
    drop(other);
}

/// Runs in a process of its own: listens, and has a child that holds the socket too, as every child
/// does between fork and exec.
pub(crate) fn play(talk: &mut Talk) {
    let path = talk.hear().expect("a path");
    let socket = bound(Path::new(&path));
    rustix::io::fcntl_setfd(socket.fd(), rustix::io::FdFlags::empty()).expect("inherited");
    let holder = std::process::Command::new("sleep").arg("1000").spawn();
    talk.say(&holder.expect("sleep").id().to_string());
    talk.hear();
}

#[test]
fn u19_p8_a_socket_held_only_by_a_child_of_a_dead_master_is_dead() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.ctl");
    let mut master = Peer::start("control", &[&path.display().to_string()]);
    let holder = master.talk.hear().expect("a child").parse().expect("a pid");
    assert!(ControlSocket::bind(&path, 0o600, None, None).is_err());
    master.child.kill().expect("ours");
    // A zombie counts as dead.
    crate::sys::process::wait::tests::await_end(master.pid());
    UnixStream::connect(&path).expect("the child holds it");
    let next = bound(&path);
    pair(&next);
    let handle = crate::sys::process::pidfd::open_process(holder).expect("it sleeps");
    crate::sys::process::pidfd::pidfd_signal(&handle, crate::model::signal::Signal::Kill)
        .expect("ours to end");
}

#[test]
fn a_file_that_is_not_a_socket_is_never_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("precious");
    fs::write(&path, "data").expect("written");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).expect("linked");
    for path in [&path, &link] {
        let error = ControlSocket::bind(path, 0o600, None, None).expect_err("refused");
        assert!(error.to_string().contains("not a socket"), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).expect("there"), "data");
    let long = dir.path().join("x".repeat(108));
    assert!(ControlSocket::bind(&long, 0o600, None, None).is_err());
}

#[test]
fn p3_lines_come_whole_and_an_unfinished_last_line_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = bound(&dir.path().join("app.ctl"));
    let (mut client, mut conn) = pair(&socket);
    assert_eq!(conn.read(), ReadBatch::default());
    client.write_all(b"one\ntw").expect("written");
    assert_eq!(conn.read().inputs, [line("one")]);
    client.write_all(b"o\n\nthr").expect("written");
    assert_eq!(conn.read().inputs, [line("two")]);
    assert_eq!(conn.read().inputs, [line("")]);
    client.shutdown(Shutdown::Write).expect("shut");
    assert_eq!(conn.read().inputs, [Input::Cut, Input::End]);
    assert!(!conn.wants_read());
    assert_eq!(conn.read(), ReadBatch::default());
    // The client shut down its sending side, and still reads.
    assert!(conn.send("answer".into()));
    conn.flush().expect("sent");
    let mut text = String::new();
    BufReader::new(&client).read_line(&mut text).expect("read");
    assert_eq!(text, "answer\n");
    drop(client);
    assert!(conn.send("more".into()));
    assert!(conn.flush().is_err());
}

/// Reads until `lines` inputs have come; writes `rest` on the side of the client meanwhile.
fn exchange(client: &mut UnixStream, mut rest: &[u8], conn: &mut Conn, lines: usize) -> Vec<Input> {
    client.set_nonblocking(true).expect("non-blocking");
    let limit = now() + crate::sys::testing::PATIENCE;
    let mut inputs = Vec::new();
    while inputs.len() < lines {
        assert!(now() < limit, "only {} inputs", inputs.len());
        if let Ok(count) = client.write(rest) {
            rest = rest.get(count..).unwrap_or_default();
        }
        inputs.extend(conn.read().inputs);
        assert!(conn.partial.capacity() <= 2 * MAX_REQUEST);
    }
    inputs
}

#[test]
fn p4_a_line_that_is_too_long_is_skipped_in_bounded_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = bound(&dir.path().join("app.ctl"));
    let (mut client, mut conn) = pair(&socket);
    let fits = "x".repeat(MAX_REQUEST - 1);
    let text = format!("{fits}\n{fits}y\n{}\nlast\n", "z".repeat(1 << 20));
    let inputs = exchange(&mut client, text.as_bytes(), &mut conn, 4);
    assert_eq!(
        inputs,
        [line(&fits), Input::TooLong, Input::TooLong, line("last")]
    );
}

#[test]
fn p4_a_flood_is_read_one_line_a_turn_without_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = bound(&dir.path().join("app.ctl"));
    let (mut client, mut conn) = pair(&socket);
    client.write_all(b"a\nb\nc\n").expect("written");
    let batches: Vec<(usize, bool)> = (0..4)
        .map(|_| {
            let batch = conn.read();
            (batch.inputs.len(), batch.more)
        })
        .collect();
    assert_eq!(batches, [(1, true), (1, true), (1, false), (0, false)]);
    // Bytes without a newline are bounded too.
    client.set_nonblocking(true).expect("non-blocking");
    let mut sent = 0;
    while let Ok(count) = client.write(&[b'x'; CHUNK]) {
        sent += count;
    }
    assert!(sent > BATCH_BYTES + CHUNK, "the socket holds {sent}");
    conn.read();
    let ready = Poller::new()
        .wait(&[(conn.fd(), Interest::READ)], Some(now()))
        .expect("poll")
        .to_vec();
    assert!(
        ready.iter().all(|ready| ready.read),
        "the rest is for later"
    );
}

#[test]
fn p4_a_client_that_does_not_read_is_refused_and_a_big_answer_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = bound(&dir.path().join("app.ctl"));
    let (client, mut conn) = pair(&socket);
    let length = MAX_UNSENT + (1 << 20);
    assert!(
        conn.send("b".repeat(length)),
        "one answer may have any size"
    );
    conn.flush().expect("no error");
    assert!(conn.wants_write());
    assert!(!conn.send("more".into()), "but nothing goes behind it");
    // Once it reads, it is served again.
    client
        .set_read_timeout(Some(crate::sys::testing::PATIENCE))
        .expect("a limit");
    let mut client = BufReader::new(client);
    let mut got = 0;
    while got < length + 1 {
        conn.flush().expect("no error");
        let count = client.fill_buf().expect("read").len();
        client.consume(count);
        got += count;
    }
    conn.flush().expect("no error");
    assert!(!conn.wants_write());
    assert!(conn.send("more".into()));
}

#[test]
fn u16_a_socket_moves_with_its_clients_and_other_sockets_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, aside) = (dir.path().join("app.ctl"), dir.path().join("aside.ctl"));
    let mut old = bound(&path);
    let (mut client, mut conn) = pair(&old);
    drop(UnixListener::bind(&aside).expect("a dead server's"));
    assert!(old.move_to(&aside).expect("moved"));
    assert!(!path.exists());
    UnixStream::connect(&aside).expect("the same server");
    client.write_all(b"{}\n").expect("still connected");
    let inputs = exchange(&mut client, b"", &mut conn, 1);
    assert_eq!(inputs, [line("{}")]);
    let new = bound(&path);
    let error = old.move_to(&path).expect_err("alive");
    assert!(error.to_string().contains("in use"), "{error}");
    assert_eq!(old.path(), aside);
    assert!(remove_dead(&path).is_err(), "alive");
    drop(new);
    assert!(old.move_to(&path).expect("moved back"));
    assert!(!aside.exists());
    remove_dead(&aside).expect("nothing there");
    fs::remove_file(&path).expect("ours");
    let another = bound(&path);
    assert!(!old.move_to(&aside).expect("nothing of ours"));
    old.remove().expect("nothing to do");
    assert!(path.exists());
    another.remove().expect("removed");
}
