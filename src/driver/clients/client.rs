//! One control connection and its requests without a reply.

use std::os::fd::OwnedFd;
use std::time::Duration;

use serde_json::Value;

use super::follower::Follower;
use crate::model::ids::{OpId, Ticket};
use crate::model::time::Time;
use crate::sys::control::Conn;
use crate::sys::io::poll::Interest;
use crate::wire::control::{Code, Failure, Reply};
use crate::wire::handover::Entry;
use crate::wire::text::shown;

use super::keys::Key;

/// How long a line may take from its first byte to its last.
pub(in crate::driver) const LINE_WITHIN: Duration = Duration::from_secs(5);

/// A control connection.
pub(in crate::driver) struct Client {
    pub(in crate::driver) conn: Conn,
    /// The connection is broken, or the client does not read what it asked for: it is closed at the
    /// next flush.
    pub(in crate::driver) gone: bool,
    /// The client sends no more requests; the connection is closed once it has its replies.
    pub(in crate::driver) input_ended: bool,
    /// Since when the rest of a line is missing.
    pub(in crate::driver) partial_since: Option<Time>,
    /// Whether it is let in.
    pub(in crate::driver) entry: Entry,
    /// There is input that was received already, so no poll will report it: a surplus request.
    pub(in crate::driver) has_unread: bool,
    pub(super) pending: Vec<Pending>,
    /// What it has been told of events, if it follows them.
    pub(super) follower: Option<Follower>,
}

/// A request that has no reply yet.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) id: Option<Value>,
    pub(super) key: Option<Key>,
    pub(super) wait: bool,
    pub(super) awaited: Awaited,
}

/// What a pending request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// That the model accepts it.
    Acceptance,
    /// The end of an operation.
    Operation(OpId),
    /// That all slots are ready.
    Ready,
}

impl Client {
    pub(super) fn new(conn: Conn, entry: Entry, now: Time) -> Self {
        Client {
            conn,
            gone: false,
            input_ended: false,
            // A token may take as long as a line, from the connect on.
            partial_since: (entry == Entry::AwaitsToken).then_some(now),
            entry,
            has_unread: false,
            pending: Vec::new(),
            follower: None,
        }
    }

    /// What to poll its descriptor for.
    pub(super) fn interest(&self) -> Interest {
        Interest {
            read: !self.input_ended && !self.has_unread && self.conn.wants_read(),
            write: self.conn.wants_write(),
        }
    }

    /// When the rest of a line is late.
    pub(super) fn deadline(&self) -> Option<Time> {
        let since = self.partial_since.filter(|_| !self.has_unread);
        since.map(|since| since + LINE_WITHIN)
    }

    /// Whether a line has taken too long by now.
    pub(in crate::driver) fn is_line_late(&self, now: Time) -> bool {
        self.partial_since
            .is_some_and(|since| now >= since + LINE_WITHIN)
    }

    /// Sends what is queued; true if queued output is lost because the connection is broken.
    pub(super) fn flush(&mut self) -> bool {
        if self.conn.wants_write() && !self.gone {
            self.gone = self.conn.flush().is_err();
        }
        self.gone && self.conn.wants_write()
    }

    /// Whether the connection is of no more use.
    pub(super) fn is_over(&self) -> bool {
        let waits = !self.pending.is_empty() || self.follower.is_some();
        let answered = !waits && !self.conn.wants_write();
        self.gone || (self.input_ended && answered)
    }

    /// Queues one line. A client that does not read what it asked for is disconnected.
    pub(super) fn send(&mut self, line: &impl serde::Serialize) {
        match serde_json::to_string(line) {
            Ok(line) => self.send_line(line),
            Err(_) => self.gone = true,
        }
    }

    pub(super) fn send_line(&mut self, line: String) {
        self.gone |= !self.conn.send(line);
    }

    pub(in crate::driver) fn reply(&mut self, reply: Reply) {
        self.send(&reply);
    }

    /// A reply with descriptors.
    pub(in crate::driver) fn reply_with(&mut self, reply: &Reply, fds: Vec<OwnedFd>) {
        match serde_json::to_string(reply) {
            Ok(line) => self.gone |= !self.conn.send_with(line, fds),
            Err(_) => self.gone = true,
        }
    }

    pub(in crate::driver) fn fail(&mut self, code: Code, message: String, id: Option<Value>) {
        // The message may repeat what the client has sent.
        let message = shown(message);
        self.reply(Reply {
            ok: false,
            error: Some(Failure { code, message }),
            id,
            ..Reply::default()
        });
    }

    /// Takes the requests that wait for `awaited`.
    pub(super) fn take_pending(&mut self, awaited: Awaited) -> Vec<Pending> {
        let (over, still) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| pending.awaited == awaited);
        self.pending = still;
        over
    }
}
