//! The client side of a control connection.

use std::io::Write;

use super::*;

fn pair(deadline: Option<Duration>) -> (ControlConnection, UnixStream) {
    let (stream, peer) = UnixStream::pair().expect("a pair");
    let deadline = deadline.map(|deadline| clock::now() + deadline);
    (
        ControlConnection {
            stream,
            deadline,
            greeting: Vec::new(),
            presents_token: false,
            heard: false,
            answer_by: None,
            buffer: Vec::new(),
            scanned: 0,
            fds: None,
        },
        peer,
    )
}

#[test]
fn lines_are_joined_from_pieces() {
    let (mut connection, mut peer) = pair(None);
    peer.write_all(b"{\"ok\":true,\"op\":1}\r\n\n{\"event\":\"progress\",\"op\":2}\n{\"ok\":fal")
        .expect("write");
    drop(peer);
    let first = connection.next_line(None).expect("sound").expect("a line");
    assert_eq!(first.text, "{\"ok\":true,\"op\":1}");
    let second = connection.next_line(None).expect("sound").expect("a line");
    assert!(matches!(second.answer, Response::Progress(progress) if progress.op == "2"));
    assert_eq!(
        connection.next_line(None).expect("sound"),
        None,
        "a line without its newline is dropped"
    );
}

#[test]
fn malformed_answers_are_errors_of_one_line() {
    for bytes in [
        &b"\xff\xfe\n"[..],
        b"pardon\n",
        b"7\n",
        b"{\"ok\":\"maybe\"}\n",
    ] {
        let (mut connection, mut peer) = pair(None);
        peer.write_all(bytes).expect("write");
        let error = connection.next_line(None).expect_err("malformed");
        assert_eq!(error.exit, Exit::Failed);
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_master_that_neither_answers_nor_reads_is_a_timeout() {
    let (mut connection, _peer) = pair(Some(Duration::from_millis(30)));
    assert_eq!(
        connection.next_line(None).expect_err("silence").exit,
        Exit::Timeout
    );

    let (mut connection, _peer) = pair(Some(Duration::from_millis(30)));
    let command = ControlCommand::Signal {
        signal: "x".repeat(8 * 1024 * 1024),
        workers: false,
        slot: None,
    };
    let request = Request {
        command,
        id: None,
        wait: true,
        key: None,
    };
    assert_eq!(
        connection.send(&request).expect_err("unread").exit,
        Exit::Timeout
    );
}

#[test]
fn the_waiting_thread_itself_keeps_the_display_alive() {
    let (mut connection, _peer) = pair(Some(Duration::from_millis(500)));
    let ticks = std::cell::Cell::new(0);
    let tick = || ticks.set(ticks.get() + 1);
    let error = connection.next_line(Some(&tick)).expect_err("silence");
    assert_eq!(error.exit, Exit::Timeout);
    assert!((1..=2).contains(&ticks.get()), "{}", ticks.get());
}

#[test]
fn only_the_first_line_has_the_short_deadline() {
    let (mut connection, mut peer) = pair(None);
    connection
        .send(&Request {
            command: ControlCommand::Status,
            id: None,
            wait: true,
            key: None,
        })
        .expect("sent");
    assert!(connection.answer_by.is_some());
    peer.write_all(b"{\"event\":\"progress\",\"op\":2}\n")
        .expect("write");
    connection.next_line(None).expect("sound");
    assert_eq!(connection.answer_by, None);

    connection.answer_by = Some(clock::now());
    assert_eq!(
        connection.next_line(None).expect_err("silence").exit,
        Exit::Timeout
    );

    let wait = ControlCommand::Wait {
        ready: true,
        op: None,
    };
    connection
        .send(&Request {
            command: wait,
            id: None,
            wait: true,
            key: None,
        })
        .expect("sent");
    assert_eq!(connection.answer_by, None, "a wait may take long");
}
