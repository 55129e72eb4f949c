//! Control clients, from one image of the master to the next: nobody has to ask again.

use std::io;

use super::{Client, Clients, Pending, What};
use crate::model::ids::Ticket;
use crate::sys::control::Conn;
use crate::wire::handover::{self, Awaited};

impl Clients {
    /// For the next image.
    pub(in crate::driver) fn handed_over(&self) -> handover::Clients {
        let all = self
            .all
            .iter()
            .filter(|(_, client)| !client.gone)
            .map(|(number, client)| client.handed_over(*number));
        handover::Clients {
            all: all.collect(),
            last_client: self.last_client,
            last_ticket: self.last_ticket,
            keys: self.keys.iter().cloned().collect(),
            dropped: self.dropped,
        }
    }

    /// From the image before.
    pub(in crate::driver) fn taken_over(clients: handover::Clients) -> io::Result<Self> {
        let all = clients.all.into_iter().map(|client| {
            let number = client.number;
            Client::taken_over(client).map(|client| (number, client))
        });
        Ok(Clients {
            all: all.collect::<io::Result<_>>()?,
            last_client: clients.last_client,
            last_ticket: clients.last_ticket,
            keys: clients.keys.into(),
            dropped: clients.dropped,
        })
    }
}

impl Client {
    fn handed_over(&self, number: u64) -> handover::Client {
        let mut client = handover::Client {
            number,
            silent: self.silent,
            owing_since: self.owing_since,
            pending: self.pending.iter().map(Pending::handed_over).collect(),
            ..handover::Client::default()
        };
        self.conn.hand_over(&mut client);
        client
    }

    fn taken_over(client: handover::Client) -> io::Result<Self> {
        Ok(Client {
            conn: Conn::taken_over(&client)?,
            gone: false,
            silent: client.silent,
            owing_since: client.owing_since,
            // What was read and not looked at is looked at in the first turn.
            more: !client.unread.0.is_empty(),
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
            key: self.key.clone(),
            wait: self.wait,
            what: match self.what {
                What::Acceptance => Awaited::Acceptance,
                What::Stop => Awaited::Stop,
                What::Op(op) => Awaited::Op(op),
                What::Ready => Awaited::Ready,
            },
        }
    }

    fn taken_over(pending: handover::Pending) -> Self {
        Pending {
            ticket: Ticket(pending.ticket),
            id: pending.id,
            key: pending.key,
            wait: pending.wait,
            what: match pending.what {
                Awaited::Acceptance => What::Acceptance,
                Awaited::Stop => What::Stop,
                Awaited::Op(op) => What::Op(op),
                Awaited::Ready => What::Ready,
            },
        }
    }
}
