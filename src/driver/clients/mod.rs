//! Control connections: which client asked for what, and which request waits for which operation.
//!
//! - [`Clients`]: all connections, the idempotency keys, and what requests change.
//! - [`Client`]: one connection, with its requests that have no reply yet.
//! - [`Keys`]: which request has begun which operation already.
//! - `follower`: the clients that follow events, each with its place among them.
//! - `reply`: the model's refusals and outcomes as replies.
//! - `handover`: the connections from one image of the master to the next.
//!
//! A client may send requests before it has its answers. The first is read at once. The others are
//! its surplus: they are read one by one, at a pace that leaves the loop to the workers and to the
//! other clients.
//!
//! The way of one request: [`Clients::ticket`] makes a ticket for it, which goes to the model with
//! the command. The model's answer names the ticket: [`Clients::refused`] replies at once, and
//! [`Clients::began`] replies with the operation's id or lets the request wait for the
//! operation. [`Clients::progress`] and [`Clients::finished`] then go to all that wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde_json::Value;

use crate::model::action::Refusal;
use crate::model::fact::text::workers as in_words;
use crate::model::ids::{Generation, OpId, Ticket};
use crate::model::time::Time;
use crate::sys::control::Conn;
use crate::sys::control::descriptors::Missing;
use crate::sys::io::poll::Interest;
use crate::sys::listener::Listener;
use crate::wire::changes::Changes;
use crate::wire::control::{Code, Failure, Plan, Progress, Reply};
use crate::wire::handover::Entry;

mod client;
mod follower;
mod handover;
mod keys;
mod reply;

use client::{Awaited, Pending};

pub(super) use client::{Client, LINE_WITHIN};
pub(super) use keys::{Key, Keys};
pub(super) use reply::{KnownOutcome, code_of, reply_of};

/// How many requests of one connection may wait at once.
pub(super) const MAX_PENDING: usize = 64;

/// The least time between two surplus requests of a client.
const SURPLUS_EVERY: Duration = Duration::from_millis(1);

/// What the generation that a request asks for has, besides what is known anyway.
pub(super) enum Asked {
    /// What a reload changes.
    Changes(Changes),
    /// These listeners too.
    Add(Vec<Listener>),
    /// Not the listeners with these inodes.
    Remove(BTreeSet<u64>),
}

/// All control connections.
#[derive(Default)]
pub(super) struct Clients {
    by_number: BTreeMap<u64, Client>,
    last_client: u64,
    last_ticket: u64,
    pub(super) keys: Keys,
    /// What the request of this ticket changes, until its generation is pinned or it is refused.
    /// Both happen in the turn that made the ticket, so an upgrade never hands any over.
    asked: BTreeMap<Ticket, Asked>,
    /// When requests are read again that were sent before the one before them was answered.
    surplus_at: Time,
    pub(super) dropped: u64,
}

impl Clients {
    /// No clients; `keys`: what clients of another master have begun; `dropped`: how many it has
    /// dropped.
    pub(super) fn after(keys: Keys, dropped: u64) -> Clients {
        Clients {
            keys,
            dropped,
            ..Clients::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn add(&mut self, conn: Conn, entry: Entry, now: Time) {
        self.last_client += 1;
        let client = Client::new(conn, entry, now);
        self.by_number.insert(self.last_client, client);
    }

    /// What to poll for: each connection by its number.
    pub(super) fn interests(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, Interest)> {
        self.by_number
            .iter()
            .map(|(number, client)| (*number, client.conn.fd(), client.interest()))
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.by_number.keys().copied().collect()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Client> {
        self.by_number.get_mut(&number)
    }

    /// When the first unfinished line is too old, or a surplus request is read.
    pub(super) fn deadline(&self) -> Option<Time> {
        let lines = self.by_number.values().filter_map(Client::deadline);
        let has_surplus = self.by_number.values().any(|client| client.has_unread);
        lines.chain(has_surplus.then_some(self.surplus_at)).min()
    }

    /// Whether surplus requests are read now.
    pub(super) fn may_read_surplus(&self, now: Time) -> bool {
        now >= self.surplus_at
    }

    /// Clients were read from `begin` to `end`. The next surplus waits three times as long: a
    /// master that is busy with such requests alone would lose its place in the scheduler's queue,
    /// and then each step of a rollout waits for a processor.
    pub(super) fn rest_from_surplus(&mut self, begin: Time, end: Time) {
        self.surplus_at = end + (end.since(begin) * 3).max(SURPLUS_EVERY);
    }

    /// A ticket for a request that the model is to answer.
    pub(super) fn ticket(
        &mut self,
        number: u64,
        id: Option<Value>,
        key: Option<Key>,
        wait: bool,
    ) -> Ticket {
        self.add_pending(number, id, key, wait, Awaited::Acceptance)
    }

    /// The client waits for the end of an operation, or for all slots to be ready.
    pub(super) fn wait_for(&mut self, number: u64, id: Option<Value>, op: Option<OpId>) {
        let awaited = op.map_or(Awaited::Ready, Awaited::Operation);
        self.add_pending(number, id, None, true, awaited);
    }

    fn add_pending(
        &mut self,
        number: u64,
        id: Option<Value>,
        key: Option<Key>,
        wait: bool,
        awaited: Awaited,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if let Some(client) = self.by_number.get_mut(&number) {
            client.pending.push(Pending {
                ticket,
                id,
                key,
                wait,
                awaited,
            });
        }
        ticket
    }

    /// Keeps what the request of this ticket changes until the model asks for its pin.
    pub(super) fn keep_asked(&mut self, ticket: Ticket, asked: Asked) {
        self.asked.insert(ticket, asked);
    }

    /// Takes what the request of this ticket changes.
    pub(super) fn take_asked(&mut self, ticket: Ticket) -> Option<Asked> {
        self.asked.remove(&ticket)
    }

    /// Takes the descriptors that came with the request of this client that is being answered.
    pub(super) fn take_fds(&mut self, number: u64) -> Result<Vec<OwnedFd>, Missing> {
        let client = self.by_number.get_mut(&number);
        client.map_or_else(|| Ok(Vec::new()), |client| client.conn.take_fds())
    }

    /// How many descriptors clients have asked for and not read yet.
    pub(super) fn unsent_fds(&self) -> usize {
        let all = self.by_number.values();
        all.map(|client| client.conn.unsent_fds()).sum()
    }

    /// Drops the clients that have not read the listeners that they asked for.
    pub(super) fn drop_unsent_fds(&mut self) {
        for client in self.by_number.values_mut() {
            client.gone |= client.conn.unsent_fds() > 0;
        }
    }

    /// Whether the client has as many waiting requests as it may.
    pub(super) fn has_too_many_pending(&self, number: u64) -> bool {
        self.by_number
            .get(&number)
            .is_some_and(|client| client.pending.len() >= MAX_PENDING)
    }

    /// The model has begun an operation for a request.
    pub(super) fn began(&mut self, ticket: Ticket, op: OpId) {
        let Some((number, place)) = self.find(ticket) else {
            return;
        };
        let Some(client) = self.by_number.get_mut(&number) else {
            return;
        };
        let pending = &mut client.pending[place];
        if let Some(key) = pending.key.take() {
            self.keys.remember(key, op);
        }
        if pending.wait {
            pending.awaited = Awaited::Operation(op);
            return;
        }
        let pending = client.pending.remove(place);
        client.reply(Reply {
            ok: true,
            op: Some(op.to_string()),
            id: pending.id,
            ..Reply::default()
        });
    }

    /// The model has refused a request.
    pub(super) fn refused(&mut self, ticket: Ticket, refusal: Refusal, message: String) {
        self.asked.remove(&ticket);
        if let Some((client, pending)) = self.settle(ticket) {
            client.fail(code_of(refusal), message, pending.id);
        }
    }

    /// A request that only asked for a plan gets it.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Result<Plan, Failure>) {
        let Some((client, Pending { id, .. })) = self.settle(ticket) else {
            return;
        };
        match answer {
            Err(failure) => client.fail(failure.code, failure.message, id),
            Ok(plan) => client.reply(Reply {
                ok: true,
                plan: Some(plan),
                id,
                ..Reply::default()
            }),
        }
    }

    /// An operation has made a step.
    pub(super) fn progress(&mut self, op: OpId, done: usize, total: usize, message: &str) {
        for client in self.by_number.values_mut() {
            let ids: Vec<Option<Value>> = client
                .pending
                .iter()
                .filter(|pending| pending.awaited == Awaited::Operation(op))
                .map(|pending| pending.id.clone())
                .collect();
            for id in ids {
                client.send(&Progress {
                    event: "progress".to_owned(),
                    op: op.to_string(),
                    done,
                    total,
                    message: message.to_owned(),
                    id,
                });
            }
        }
    }

    /// An operation has ended: the requests that wait for it get their replies.
    pub(super) fn finished(&mut self, op: OpId, outcome: &KnownOutcome) {
        for client in self.by_number.values_mut() {
            for pending in client.take_pending(Awaited::Operation(op)) {
                client.reply(reply_of(op, outcome, pending.id));
            }
        }
    }

    /// All slots are ready: the requests that wait for that get their replies.
    pub(super) fn all_ready(&mut self, generation: Generation, ready: usize) {
        for client in self.by_number.values_mut() {
            for pending in client.take_pending(Awaited::Ready) {
                let workers = in_words(ready);
                client.reply(Reply {
                    ok: true,
                    message: Some(format!("ready: generation {generation}, {workers}")),
                    generation: Some(generation.0),
                    id: pending.id,
                    ..Reply::default()
                });
            }
        }
    }

    /// Whether a request waits for all slots to be ready.
    pub(super) fn awaits_ready(&self) -> bool {
        let mut pending = self.by_number.values().flat_map(|client| &client.pending);
        pending.any(|pending| pending.awaited == Awaited::Ready)
    }

    /// Sends what is queued, and closes the connections that are of no more use.
    pub(super) fn flush(&mut self) {
        let mut dropped = 0;
        self.by_number.retain(|_, client| {
            dropped += u64::from(client.flush());
            !client.is_over()
        });
        self.dropped += dropped;
    }

    /// The master is about to exit, and another one is the service: requests that wait for what
    /// ends there are not left without an answer.
    pub(super) fn send_away(&mut self) {
        self.send_followers_away();
        for client in self.by_number.values_mut() {
            for pending in std::mem::take(&mut client.pending) {
                let text = match pending.awaited {
                    Awaited::Operation(op) => {
                        format!("this master leaves, and operation {op} goes on: ask the other one")
                    }
                    Awaited::Ready | Awaited::Acceptance => {
                        "this master leaves: ask the other one".to_owned()
                    }
                };
                client.fail(Code::Moved, text, pending.id);
            }
        }
    }

    /// The slots of this master will never be ready again: another one is the service.
    pub(super) fn never_ready(&mut self, why: &str) {
        for client in self.by_number.values_mut() {
            for pending in client.take_pending(Awaited::Ready) {
                client.fail(Code::Moved, why.to_owned(), pending.id);
            }
        }
    }

    /// Sends what is queued for the last time and closes all connections: the master is about to
    /// exit.
    pub(super) fn flush_and_close(&mut self) {
        self.flush();
        self.by_number.clear();
    }

    /// Takes a pending request, with the client that it came from.
    fn settle(&mut self, ticket: Ticket) -> Option<(&mut Client, Pending)> {
        let (number, place) = self.find(ticket)?;
        let client = self.by_number.get_mut(&number)?;
        let pending = client.pending.remove(place);
        Some((client, pending))
    }

    fn find(&self, ticket: Ticket) -> Option<(u64, usize)> {
        self.by_number.iter().find_map(|(number, client)| {
            let place = client
                .pending
                .iter()
                .position(|pending| pending.ticket == ticket)?;
            Some((*number, place))
        })
    }
}
