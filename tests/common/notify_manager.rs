//! A service manager that the test plays: it receives what a service sends to `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::service::HANG;

/// A service manager's socket.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn at(path: &Path) -> Manager {
        Manager::new(UnixDatagram::bind(path).expect("bound"))
    }

    pub(crate) fn new(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        Manager(socket)
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn next_message(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message in time");
        let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
        text.split('\n').map(str::to_owned).collect()
    }

    /// The next message that is more than a line for people; its words but for that line.
    #[track_caller]
    pub(crate) fn next_notification(&self) -> Vec<String> {
        loop {
            let mut words = self.next_message();
            words.retain(|word| !word.starts_with("STATUS="));
            if !words.is_empty() {
                return words;
            }
        }
    }

    /// The next `STATUS=` line that fulfils the condition.
    #[track_caller]
    pub(crate) fn next_status_line(&self, so: impl Fn(&str) -> bool) -> String {
        loop {
            let words = self.next_message();
            let line = words.iter().find_map(|word| word.strip_prefix("STATUS="));
            if let Some(line) = line.filter(|line| so(line)) {
                return line.to_owned();
            }
            let all = |word: &String| word.starts_with("STATUS=");
            assert!(words.iter().all(all), "{words:?} before such a line");
        }
    }

    /// The messages that were sent and not read yet.
    pub(crate) fn unread(&self) -> Vec<String> {
        self.0.set_nonblocking(true).expect("set");
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.0.recv(&mut buffer) {
            rest.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.0.set_nonblocking(false).expect("set");
        rest
    }

    /// Reads that a reload begins, not before `since`.
    #[track_caller]
    pub(crate) fn expect_reloading(&self, since: u64) {
        let words = self.next_notification();
        assert_eq!(words[0], "RELOADING=1", "{words:?}");
        let stamp = words[1].strip_prefix("MONOTONIC_USEC=").expect("a stamp");
        let stamp: u64 = stamp.parse().expect("a number");
        assert!((since..=now()).contains(&stamp), "{stamp} after {since}");
        assert_eq!(words.len(), 2, "{words:?}");
    }

    #[track_caller]
    pub(crate) fn expect_ready(&self) {
        assert_eq!(self.next_notification(), ["READY=1"]);
    }
}

/// Microseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    prefork::sys::machine::clock::now().0 / 1000
}
