//! The control connections from one image of the master to the next: no client has to ask again.

use std::collections::BTreeMap;
use std::io;

use super::Clients;
use super::client::{Awaited, Client, Pending};
use super::follower::Follower;
use super::keys::{Key, Keys};
use crate::model::ids::Ticket;
use crate::model::time::Time;
use crate::sys::control::Conn;
use crate::sys::io::left_open::LeftOpen;
use crate::wire::handover;
use crate::wire::handover::values::Moment;

impl Clients {
    /// For the next image.
    pub(in crate::driver) fn handed_over(&self) -> handover::Clients {
        let (keys, key_commands) = self.keys.handed_over();
        let all = self
            .by_number
            .iter()
            .filter(|(_, client)| !client.gone)
            .map(|(number, client)| client.handed_over(*number));
        handover::Clients {
            all: all.collect(),
            last_client: self.last_client,
            last_ticket: self.last_ticket,
            keys,
            key_commands,
            dropped: self.dropped,
        }
    }

    /// From the image before.
    pub(in crate::driver) fn taken_over(
        clients: handover::Clients,
        left: &mut LeftOpen,
    ) -> io::Result<Self> {
        let all = clients.all.into_iter().map(|client| {
            let number = client.number;
            Client::taken_over(client, left).map(|client| (number, client))
        });
        Ok(Clients {
            by_number: all.collect::<io::Result<_>>()?,
            last_client: clients.last_client,
            last_ticket: clients.last_ticket,
            keys: Keys::taken_over((clients.keys, clients.key_commands)),
            asked: BTreeMap::new(),
            surplus_at: Time::default(),
            dropped: clients.dropped,
        })
    }
}

impl Client {
    fn handed_over(&self, number: u64) -> handover::Client {
        let mut client = handover::Client {
            number,
            silent: self.input_ended,
            entry: self.entry,
            owing_since: self.partial_since.map(Moment::from),
            pending: self.pending.iter().map(Pending::handed_over).collect(),
            follows: self.follower.as_ref().map(Follower::handed_over),
            ..handover::Client::default()
        };
        self.conn.hand_over(&mut client);
        client
    }

    fn taken_over(client: handover::Client, left: &mut LeftOpen) -> io::Result<Self> {
        Ok(Client {
            conn: Conn::taken_over(&client, left)?,
            follower: client.follows.map(Follower::taken_over),
            gone: false,
            input_ended: client.silent,
            entry: client.entry,
            partial_since: client.owing_since.map(Time::from),
            // What the image before received and did not parse is parsed in the first turn.
            has_unread: !client.unread.0.is_empty(),
            pending: client
                .pending
                .into_iter()
                .map(Pending::taken_over)
                .collect(),
        })
    }
}

impl Pending {
    fn handed_over(&self) -> handover::Pending {
        handover::Pending {
            ticket: self.ticket.0,
            id: self.id.clone(),
            key: self.key.as_ref().map(|it| it.key.clone()),
            command: self.key.as_ref().map(|it| it.command.clone()),
            wait: self.wait,
            what: match self.awaited {
                Awaited::Acceptance => handover::Awaited::Acceptance,
                Awaited::Operation(op) => handover::Awaited::Op(op.into()),
                Awaited::Ready => handover::Awaited::Ready,
            },
        }
    }

    fn taken_over(pending: handover::Pending) -> Self {
        Pending {
            ticket: Ticket(pending.ticket),
            id: pending.id,
            key: pending.key.map(|key| Key {
                key,
                command: pending.command.unwrap_or_default(),
            }),
            wait: pending.wait,
            awaited: match pending.what {
                handover::Awaited::Acceptance => Awaited::Acceptance,
                // Of an older image, which told it apart.
                handover::Awaited::Stop => Awaited::Acceptance,
                handover::Awaited::Op(op) => Awaited::Operation(op.into()),
                handover::Awaited::Ready => Awaited::Ready,
            },
        }
    }
}
