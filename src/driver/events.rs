//! The events of the service: facts get their numbers, also while two masters serve, and clients
//! begin to follow them.

use serde_json::Value;

use super::state::Driver;
use crate::model::fact::Fact;
use crate::model::machines::event_log::KEPT;
use crate::sys::machine::clock;
use crate::wire::control::Code;
use crate::wire::events;
use crate::wire::events::kept::EventMessage;

/// After so many events of one turn the followers are told in between: a turn may make more than
/// are kept, and a client that reads at once is to miss none.
const TELL_EVERY: u64 = 200;

impl Driver {
    /// A fact that is an event gets its number.
    pub(super) fn record_event(&mut self, fact: &Fact) {
        let now = || clock::rfc3339(clock::wall());
        let Some(event) = events::render(fact, now) else {
            return;
        };
        // The other master is told before any client is: a client that has seen an event may ask
        // that master next.
        let number = self.events.happened(event.clone());
        self.send_event(match number {
            Some(number) => EventMessage::Numbered(number, false, event),
            None => EventMessage::Event(event),
        });
        self.tell_in_between(number);
    }

    /// The other master has said something about events.
    pub(super) fn hear_event(&mut self, message: EventMessage) {
        match message {
            EventMessage::Event(event) if events::tells_again(&event, self.events.kept()) => {
                // Under a number that it has: so it waits for this one no more, and tells it to no
                // client.
                self.send_event(EventMessage::Numbered(self.events.last(), true, event));
            }
            EventMessage::Event(event) => {
                let number = self.events.happened_there(event.clone());
                if let Some(number) = number {
                    self.send_event(EventMessage::Numbered(number, true, event));
                }
                self.tell_in_between(number);
            }
            EventMessage::Story(slot, entry) => self.stories.add(slot, entry),
            EventMessage::Numbered(number, own, event) => {
                self.events.numbered(number, own, event);
                self.tell_in_between(Some(number));
            }
        }
    }

    fn send_event(&mut self, message: EventMessage) {
        if let Some(peer) = &mut self.peer {
            peer.send_event(&message, clock::now());
        }
    }

    fn tell_in_between(&mut self, number: Option<u64>) {
        if number.is_some_and(|number| number.is_multiple_of(TELL_EVERY)) {
            self.clients.tell_events(&self.events);
        }
    }

    /// A client asks for events: from now on, or from the one after `since`. `log`: only if they
    /// are those of this service.
    pub(super) fn follow_events(
        &mut self,
        number: u64,
        id: Option<Value>,
        since: Option<u64>,
        log: Option<String>,
    ) {
        let own = format!("{:x}", self.events.id());
        if log.is_some_and(|log| log != own) {
            let text = "the master that told the events before has died".to_owned();
            return self.fail(number, Code::MasterDied, text, id);
        }
        let last = self.events.last();
        // Beside another master, this one may be some messages behind what that one has told.
        let lead = if self.peer.is_some() { KEPT as u64 } else { 0 };
        let most = last.saturating_add(lead);
        if let Some(since) = since.filter(|since| *since > most) {
            let text = format!("there is no event {since} yet: the last one is {last}");
            return self.fail(number, Code::Refused, text, id);
        }
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        if client.follows() {
            let text = "this connection follows the events already".to_owned();
            return client.fail(Code::Refused, text, id);
        }
        client.follow(id, since.unwrap_or(last), &own);
    }
}
