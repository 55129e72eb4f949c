//! Clients that follow events. Each has its own place in the log, so a slow one costs no more
//! memory than its unsent lines, which are limited, and holds up neither the master nor the others.

use serde_json::Value;

use super::Clients;
use super::client::Client;
use crate::model::machines::event_log::{EventLog, NextEvent};
use crate::sys::machine::clock;
use crate::wire::control::{Code, Reply};
use crate::wire::events;
use crate::wire::handover;

/// A client with more unsent bytes than this is told nothing more until it has read some: events
/// wait for it in the log, which all clients share.
const MAX_UNSENT: usize = 64 * 1024;

/// What a client that follows events has been told.
pub(super) struct Follower {
    /// The id of its request.
    id: Option<Value>,
    /// The number of the last event that it was told.
    seen: u64,
}

impl Follower {
    pub(super) fn handed_over(&self) -> handover::Follows {
        handover::Follows {
            id: self.id.clone(),
            seen: self.seen,
        }
    }

    pub(super) fn taken_over(follows: handover::Follows) -> Self {
        Follower {
            id: follows.id,
            seen: follows.seen,
        }
    }

    /// The next line, if there is one.
    fn next_line(&mut self, log: &EventLog<String>) -> Option<String> {
        let (number, line) = match log.next_after(self.seen)? {
            NextEvent::Kept(number, event) => {
                (number, events::line(number, event, self.id.as_ref()))
            }
            NextEvent::Missed { count, last } => {
                let missed = events::missed(&now(), count);
                (last, events::line(last, &missed, self.id.as_ref()))
            }
        };
        self.seen = number;
        Some(line)
    }
}

impl Client {
    /// Whether it follows events.
    pub(in crate::driver) fn follows(&self) -> bool {
        self.follower.is_some()
    }

    /// It follows events from now on, and has seen everything up to event `seen` of this log.
    pub(in crate::driver) fn follow(&mut self, id: Option<Value>, seen: u64, log: &str) {
        let first = events::following(&now(), log);
        self.send_line(events::line(seen, &first, id.as_ref()));
        self.follower = Some(Follower { id, seen });
    }

    /// Queues what it has not been told yet, as far as it reads.
    fn queue_events(&mut self, log: &EventLog<String>) {
        let Some(follower) = &mut self.follower else {
            return;
        };
        while !self.gone
            && self.conn.unsent() <= MAX_UNSENT
            && let Some(line) = follower.next_line(log)
        {
            self.gone |= !self.conn.send(line);
        }
    }

    /// It is told no more events: the reply to its request.
    fn end_following(&mut self, reply: impl FnOnce(&mut Client, Option<Value>)) {
        if let Some(follower) = self.follower.take() {
            reply(self, follower.id);
        }
    }
}

impl Clients {
    /// Tells those that follow events what is new. What a socket takes is sent at once; the rest
    /// waits until it is writable.
    pub(in crate::driver) fn tell_events(&mut self, log: &EventLog<String>) {
        for client in self.by_number.values_mut().filter(|it| it.follows()) {
            client.queue_events(log);
            client.flush();
            // If there is more, something is unsent then, and the loop comes again.
            client.queue_events(log);
        }
    }

    /// The service has ended, and with it the events.
    pub(in crate::driver) fn end_of_events(&mut self) {
        for client in self.by_number.values_mut() {
            client.end_following(|client, id| {
                client.reply(Reply {
                    ok: true,
                    message: Some("the service has ended".to_owned()),
                    id,
                    ..Reply::default()
                });
            });
        }
    }

    /// This master leaves, and the other one goes on with the events.
    pub(super) fn send_followers_away(&mut self) {
        for client in self.by_number.values_mut() {
            client.end_following(|client, id| {
                let text = "this master leaves: the other one has the events".to_owned();
                client.fail(Code::Moved, text, id);
            });
        }
    }
}

fn now() -> String {
    clock::rfc3339(clock::wall())
}
