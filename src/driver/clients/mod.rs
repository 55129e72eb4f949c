//! Control connections: who asked for what, and who waits for which operation.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde_json::Value;

use crate::model::ids::{Generation, OpId, Ticket};
use crate::model::operation::Outcome;
use crate::model::action::Refusal;
use crate::model::text::workers as in_words;
use crate::model::time::Time;
use crate::sys::control::Conn;
use crate::sys::io::poll::Interest;
use crate::wire::control::{Code, Failure, Plan, Progress, Reply};

mod handover;

/// How many clients may be connected at once.
pub(super) const MAX_CLIENTS: usize = 1024;

/// How many requests of one connection may wait at once.
pub(super) const MAX_PENDING: usize = 64;

/// How long a line may take from its first byte to its last.
pub(super) const LINE_WITHIN: Duration = Duration::from_secs(5);

/// How many idempotency keys are remembered.
const MAX_KEYS: usize = 256;

/// A control connection.
pub(super) struct Client {
    pub(super) conn: Conn,
    /// It cannot be talked to any more, or is not worth it.
    pub(super) gone: bool,
    /// It says no more; it goes once it has its answers.
    pub(super) silent: bool,
    /// Since when it owes us the rest of a line.
    pub(super) owing_since: Option<Time>,
    /// There is more to read that no poll will tell.
    pub(super) more: bool,
    pending: Vec<Pending>,
}

/// A request that has no reply yet.
struct Pending {
    ticket: Ticket,
    id: Option<Value>,
    key: Option<String>,
    wait: bool,
    what: What,
}

/// What a pending request waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// For the model to accept it.
    Acceptance,
    /// For the model to accept a stop; its end is the connection's.
    Stop,
    /// For the end of an operation.
    Op(OpId),
    /// For all slots to be ready.
    Ready,
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    all: BTreeMap<u64, Client>,
    last_client: u64,
    last_ticket: u64,
    keys: VecDeque<(String, OpId)>,
    pub(super) dropped: u64,
}

impl Clients {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn add(&mut self, conn: Conn) {
        self.last_client += 1;
        let client = Client {
            conn,
            gone: false,
            silent: false,
            owing_since: None,
            more: false,
            pending: Vec::new(),
        };
        self.all.insert(self.last_client, client);
    }

    /// What to poll for, in the order of [`Clients::numbers`].
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        self.all.values().map(|client| {
            let interest = Interest {
                read: !client.silent && client.conn.wants_read(),
                write: client.conn.wants_write(),
            };
            (client.conn.fd(), interest)
        })
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.all.keys().copied().collect()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Client> {
        self.all.get_mut(&number)
    }

    /// When somebody's unfinished line is too old; at once if somebody has more to be read.
    pub(super) fn deadline(&self) -> Option<Time> {
        let due = |client: &Client| {
            if client.more {
                Some(Time(0))
            } else {
                client.owing_since.map(|since| since + LINE_WITHIN)
            }
        };
        self.all.values().filter_map(due).min()
    }

    /// A ticket for a request that the model is to answer.
    pub(super) fn ticket(
        &mut self,
        number: u64,
        id: Option<Value>,
        key: Option<String>,
        wait: bool,
        stop: bool,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if let Some(client) = self.all.get_mut(&number) {
            let what = if stop { What::Stop } else { What::Acceptance };
            client.pending.push(Pending {
                ticket,
                id,
                key,
                wait,
                what,
            });
        }
        ticket
    }

    /// The client waits for the end of an operation, or for all slots to be ready.
    pub(super) fn wait_for(&mut self, number: u64, id: Option<Value>, op: Option<OpId>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        if let Some(client) = self.all.get_mut(&number) {
            let what = op.map_or(What::Ready, What::Op);
            client.pending.push(Pending {
                ticket,
                id,
                key: None,
                wait: true,
                what,
            });
        }
    }

    /// Whether the client has as many requests waiting as it may.
    pub(super) fn owes_too_many(&self, number: u64) -> bool {
        self.all
            .get(&number)
            .is_some_and(|client| client.pending.len() >= MAX_PENDING)
    }

    /// The operation that this key has begun before.
    pub(super) fn known_key(&self, key: &str) -> Option<OpId> {
        self.keys
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, op)| *op)
    }

    /// The model has made an operation of a request.
    pub(super) fn began(&mut self, ticket: Ticket, op: OpId) {
        let Some((number, place)) = self.find(ticket) else {
            return;
        };
        let Some(client) = self.all.get_mut(&number) else {
            return;
        };
        let pending = &mut client.pending[place];
        if let Some(key) = pending.key.take() {
            self.keys.push_back((key, op));
            if self.keys.len() > MAX_KEYS {
                self.keys.pop_front();
            }
        }
        if pending.wait && pending.what != What::Stop {
            pending.what = What::Op(op);
            return;
        }
        let stopping = (pending.what == What::Stop).then(|| "stopping".to_owned());
        let pending = client.pending.remove(place);
        client.reply(Reply {
            ok: true,
            op: Some(op.0),
            message: stopping,
            id: pending.id,
            ..Reply::default()
        });
    }

    /// The model has not.
    pub(super) fn refused(&mut self, ticket: Ticket, refusal: Refusal, message: String) {
        if let Some((client, pending)) = self.settle(ticket) {
            client.fail(code_of(refusal), message, pending.id);
        }
    }

    /// A request that only asked for a plan has its answer.
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

    /// An operation went a step on.
    pub(super) fn progress(&mut self, op: OpId, done: usize, total: usize, message: &str) {
        for client in self.all.values_mut() {
            let ids: Vec<Option<Value>> = client
                .pending
                .iter()
                .filter(|pending| pending.what == What::Op(op))
                .map(|pending| pending.id.clone())
                .collect();
            for id in ids {
                let event = "progress".to_owned();
                client.say(&Progress {
                    event,
                    op: op.0,
                    done,
                    total,
                    message: message.to_owned(),
                    id,
                });
            }
        }
    }

    /// An operation has ended: whoever waits for it is told.
    pub(super) fn finished(&mut self, op: OpId, outcome: &Outcome, generation: Generation) {
        for client in self.all.values_mut() {
            let (over, still) = std::mem::take(&mut client.pending)
                .into_iter()
                .partition(|pending| pending.what == What::Op(op));
            client.pending = still;
            for pending in over {
                client.reply(reply_of(op, outcome, generation, pending.id));
            }
        }
    }

    /// All slots are ready: whoever waits for that is told.
    pub(super) fn all_ready(&mut self, generation: Generation, ready: usize) {
        for client in self.all.values_mut() {
            let (over, still): (Vec<Pending>, Vec<Pending>) = std::mem::take(&mut client.pending)
                .into_iter()
                .partition(|pending| pending.what == What::Ready);
            client.pending = still;
            for pending in over {
                let message = Some(format!(
                    "ready: generation {generation}, {}",
                    in_words(ready)
                ));
                let generation = Some(generation.0);
                client.reply(Reply {
                    ok: true,
                    message,
                    generation,
                    id: pending.id,
                    ..Reply::default()
                });
            }
        }
    }

    /// Whether anybody waits for all slots to be ready.
    pub(super) fn awaits_ready(&self) -> bool {
        self.all.values().any(|client| {
            client
                .pending
                .iter()
                .any(|pending| pending.what == What::Ready)
        })
    }

    /// Sends what is queued; forgets who is gone, and who said no more and has its answers.
    pub(super) fn flush(&mut self) {
        let mut dropped = 0;
        self.all.retain(|_, client| {
            if client.conn.wants_write() && !client.gone {
                client.gone = client.conn.flush().is_err();
            }
            dropped += u64::from(client.gone && client.conn.wants_write());
            let done = client.silent && client.pending.is_empty() && !client.conn.wants_write();
            !client.gone && !done
        });
        self.dropped += dropped;
    }

    /// The last chance to send: the master is about to exit.
    pub(super) fn farewell(&mut self) {
        self.flush();
        self.all.clear();
    }

    /// The request is no longer pending; whose it was.
    fn settle(&mut self, ticket: Ticket) -> Option<(&mut Client, Pending)> {
        let (number, place) = self.find(ticket)?;
        let client = self.all.get_mut(&number)?;
        let pending = client.pending.remove(place);
        Some((client, pending))
    }

    fn find(&self, ticket: Ticket) -> Option<(u64, usize)> {
        self.all.iter().find_map(|(number, client)| {
            let place = client
                .pending
                .iter()
                .position(|pending| pending.ticket == ticket)?;
            Some((*number, place))
        })
    }
}

impl Client {
    /// Queues one line. A client that does not read what it asked for is dropped.
    fn say(&mut self, line: &impl serde::Serialize) {
        match serde_json::to_string(line) {
            Ok(line) => self.gone |= !self.conn.send(line),
            Err(_) => self.gone = true,
        }
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        self.say(&reply);
    }

    pub(super) fn fail(&mut self, code: Code, message: String, id: Option<Value>) {
        self.reply(Reply {
            ok: false,
            error: Some(Failure { code, message }),
            id,
            ..Reply::default()
        });
    }
}

/// What a refusal is called on the wire.
pub(super) fn code_of(refusal: Refusal) -> Code {
    match refusal {
        Refusal::Busy => Code::Busy,
        Refusal::Senseless => Code::Refused,
        Refusal::Usage => Code::Usage,
    }
}

/// What an operation's end looks like on the wire.
pub(super) fn reply_of(
    op: OpId,
    outcome: &Outcome,
    generation: Generation,
    id: Option<Value>,
) -> Reply {
    let op = Some(op.0);
    let generation = Some(generation.0);
    let (code, message) = match outcome {
        Outcome::Done(message, warnings) => {
            let (message, warnings) = (Some(message.clone()), warnings.clone());
            return Reply {
                ok: true,
                op,
                message,
                warnings,
                generation,
                id,
                ..Reply::default()
            };
        }
        Outcome::Failed(message) | Outcome::RolledBack(message) => (Code::Failed, message),
        Outcome::Aborted(message) => (Code::Aborted, message),
    };
    let error = Some(Failure {
        code,
        message: message.clone(),
    });
    Reply {
        ok: false,
        error,
        op,
        generation,
        id,
        ..Reply::default()
    }
}
