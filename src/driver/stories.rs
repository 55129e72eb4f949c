//! The stories of the slots: facts become entries, also those of another master, and a client asks
//! for the story of one slot.

use std::time::Duration;

use serde_json::Value;

use super::state::Driver;
use crate::model::fact::Fact;
use crate::sys::machine::clock;
use crate::wire::control::Code;
use crate::wire::events::kept::EventMessage;
use crate::wire::status::Slot;
use crate::wire::story::{self, Entry, Story};

impl Driver {
    /// A fact about a slot is an entry of the slot's story, in both masters while there are two:
    /// either may have the service in the end.
    pub(super) fn record_story(&mut self, fact: &Fact) {
        let now = clock::wall();
        let date = |from_now: Duration| clock::rfc3339(now + from_now);
        let Some((slot, entry)) = story::entry(fact, date) else {
            return;
        };
        let entry = entry.render();
        if let Some(peer) = &mut self.peer {
            let message = EventMessage::Story(slot, entry.clone());
            peer.send_event(&message, clock::now());
        }
        self.stories.add(slot, entry);
    }

    /// Answers why a slot is as it is.
    pub(super) fn why(&mut self, number: u64, id: Option<Value>, slot: u32) {
        let status = self.status();
        let slots = status.slots.len();
        let entries: Option<Vec<Entry>> = self.stories.of(slot).map(|story| {
            let parsed = story.map(|entry| Entry::parse(entry));
            parsed.flatten().collect()
        });
        let now = status.slots.iter().find(|known| known.slot == slot);
        if now.is_none() && entries.is_none() {
            let there_are = match slots {
                0 => "the service has no slots".to_owned(),
                1 => "the service has 1 slot, number 0".to_owned(),
                _ => format!("the service has {slots} slots, 0 to {}", slots - 1),
            };
            let text = format!("no slot {slot} is known: {there_are}");
            return self.fail(number, Code::Usage, text, id);
        }
        let of_slot = |workers: &[Slot]| {
            let workers = workers.iter().filter(|worker| worker.slot == slot);
            workers.cloned().collect()
        };
        let story = Story {
            state: status.state.clone(),
            slot,
            slots,
            now: now.cloned(),
            starting: of_slot(&status.starting),
            retiring: of_slot(&status.retiring),
            entries: entries.unwrap_or_default(),
            output: None,
        };
        self.reply(number, id, |_, reply| reply.why = Some(Box::new(story)));
    }
}
