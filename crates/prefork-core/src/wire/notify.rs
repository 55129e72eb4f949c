//! Notifications of a worker to the master on `NOTIFY_SOCKET`: systemd's protocol, lines of
//! `KEY=VALUE` in one datagram (sd_notify(3)).
//!
//! The other direction, from the master to a service manager, is [`super::service_manager`].

/// The longest status text that is kept, in bytes.
pub const MAX_STATUS: usize = 4096;

/// One line of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `READY=1`: the worker is ready.
    Ready,
    /// `STOPPING=1`: the worker accepts no more connections.
    Stopping,
    /// `RELOADING=1`: the worker reloads itself until the next `READY=1`.
    Reloading,
    /// `STATUS=`: one line for people, without control characters, at most [`MAX_STATUS`] bytes.
    Status(String),
    /// `WATCHDOG=1`: the worker is alive.
    Watchdog,
    /// `WATCHDOG=trigger`: treat the worker as if its heartbeat had stopped.
    WatchdogTrigger,
    /// `WATCHDOG_USEC=`: the timeout of the worker's heartbeat from now on, in microseconds.
    WatchdogUsec(u64),
    /// `EXTEND_TIMEOUT_USEC=`: no timeout may end the worker for this many microseconds.
    ExtendTimeoutUsec(u64),
    /// `MAINPID=`: the process that serves.
    MainPid(i32),
    /// `BARRIER=1`: the sender waits until the master closes the descriptor of this datagram.
    Barrier,
}

/// Parses a datagram. Lines that are unknown or malformed are ignored, as the protocol asks; the
/// order is kept.
pub fn parse(datagram: &[u8]) -> Vec<Message> {
    datagram
        .split(|byte| *byte == b'\n')
        .filter_map(message)
        .collect()
}

fn message(line: &[u8]) -> Option<Message> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = line.split_at_checked(equals)?;
    let value = value.get(1..)?;
    match (key, value) {
        (b"READY", b"1") => Some(Message::Ready),
        (b"STOPPING", b"1") => Some(Message::Stopping),
        (b"RELOADING", b"1") => Some(Message::Reloading),
        (b"STATUS", text) => Some(Message::Status(clean(text))),
        (b"WATCHDOG", b"1") => Some(Message::Watchdog),
        (b"WATCHDOG", b"trigger") => Some(Message::WatchdogTrigger),
        (b"WATCHDOG_USEC", text) => number(text).map(Message::WatchdogUsec),
        (b"EXTEND_TIMEOUT_USEC", text) => number(text).map(Message::ExtendTimeoutUsec),
        (b"MAINPID", text) => number(text)
            .and_then(|pid| i32::try_from(pid).ok())
            .filter(|pid| *pid > 0)
            .map(Message::MainPid),
        (b"BARRIER", b"1") => Some(Message::Barrier),
        _ => None,
    }
}

/// A number of digits alone, without sign and blanks.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then_some(text).and_then(|text| {
        let text = std::str::from_utf8(text).ok()?;
        text.parse().ok()
    })
}

/// Removes what must not get on a terminal or into a log.
fn clean(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut clean = String::new();
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if clean.len() + letter.len_utf8() > MAX_STATUS {
            break;
        }
        clean.push(letter);
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_parsed_in_order() {
        let text = b"READY=1\nSTATUS=serving 3 of 4\nWATCHDOG=1\nMAINPID=42\nX_FOO=bar\nBARRIER=1";
        assert_eq!(
            parse(text),
            [
                Message::Ready,
                Message::Status("serving 3 of 4".into()),
                Message::Watchdog,
                Message::MainPid(42),
                Message::Barrier,
            ]
        );
        let text = b"STOPPING=1\nRELOADING=1\nWATCHDOG=trigger\n\
            WATCHDOG_USEC=250000\nEXTEND_TIMEOUT_USEC=0\n";
        assert_eq!(
            parse(text),
            [
                Message::Stopping,
                Message::Reloading,
                Message::WatchdogTrigger,
                Message::WatchdogUsec(250_000),
                Message::ExtendTimeoutUsec(0),
            ]
        );
    }

    #[test]
    fn malformed_lines_are_ignored() {
        for text in [
            "",
            "\n\n",
            "=",
            "READY",
            "READY=",
            "READY=0",
            "READY=1 ",
            " READY=1",
            "ready=1",
            "MAINPID=0",
            "MAINPID=-1",
            "MAINPID=+1",
            "MAINPID=99999999999",
            "WATCHDOG_USEC=",
            "WATCHDOG_USEC=1s",
            "WATCHDOG_USEC=99999999999999999999",
            "BARRIER=2",
            "FDSTORE=1",
        ] {
            assert_eq!(parse(text.as_bytes()), [], "{text:?}");
        }
    }

    #[test]
    fn status_is_clean_and_bounded() {
        let parsed = parse(b"STATUS=\x1b[31mred\x07\xff tab\there");
        assert_eq!(parsed, [Message::Status("[31mred\u{fffd} tabhere".into())]);
        let long = format!("STATUS={}", "ü".repeat(5000));
        let parsed = parse(long.as_bytes());
        assert_eq!(parsed, [Message::Status("ü".repeat(MAX_STATUS / 2))]);
        assert_eq!(parse(b"STATUS="), [Message::Status(String::new())]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for message in parse(&bytes) {
                if let Message::Status(text) = message {
                    prop_assert!(text.len() <= MAX_STATUS && !text.contains(char::is_control));
                }
            }
        }
    }
}
