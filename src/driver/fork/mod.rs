//! An upgrade by fork: another master beside this one (U16 to U20).
//!
//! What the two masters tell each other, and what follows from it, is decided by the model
//! ([`fork`](crate::model::fork)). Here are the actions, and the two sides of the start:
//!
//! - `start`, in the old master: it moves its paths aside, writes down what the new master is to
//!   have, and starts it.
//! - [`inherited`], in the new master: it takes that, and a driver is made of it.
//! - `refused`: why no second master may be started, also if the model would.
//!
//! The other master itself, its process and the link to it, is a part of the driver
//! (`state::PeerMaster`). The way of one message: `read_peer_master` reads it and feeds it to the
//! model as `Event::Peer`; the model's answer comes back as `Action::Peer`, and
//! `perform_for_peer` performs it.

pub mod inherited;
mod refused;
mod start;

use crate::model::event::Event;
use crate::model::peer::{PeerAction, PeerEvent, PeerMessage};
use crate::model::time::Time;
use crate::sys::machine::clock;

use super::state::Driver;

pub use inherited::InheritedFork;

impl Driver {
    /// Performs what the model says about the other master.
    pub(super) fn perform_for_peer(&mut self, action: PeerAction) -> Option<Event> {
        match action {
            PeerAction::StartMaster(state) => return Some(Event::Peer(self.fork_master(*state))),
            PeerAction::Tell(message) => {
                if let Some(peer) = &mut self.peer {
                    peer.send(&message, clock::now());
                }
            }
            PeerAction::Kill => {
                if let Some(peer) = &self.peer {
                    peer.kill();
                }
            }
            PeerAction::TakeNamesBack => {
                self.published.move_back(&self.log);
                self.remove_peer_ack_socket();
                self.forget_peer();
            }
            PeerAction::RemoveOldNames => {
                if let Some(peer) = &self.peer {
                    peer.remove_old_paths(&self.log);
                }
                self.remove_peer_ack_socket();
                self.forget_peer();
            }
            PeerAction::Succeeded => {
                if let (Some(peer), Some(service_manager)) = (&self.peer, &mut self.service_manager)
                {
                    service_manager.hand_over(peer.pid().unsigned_abs(), &self.log);
                }
            }
            PeerAction::HandedOver => {
                if let Some(service_manager) = &mut self.service_manager {
                    service_manager.say_again();
                }
            }
            PeerAction::PassOn(signal) => {
                if let Some(peer) = &self.peer {
                    peer.signal(signal);
                }
            }
        }
        None
    }

    /// A master that was killed has not removed its einhorn socket.
    fn remove_peer_ack_socket(&self) {
        if let (Some(peer), Some(control)) = (&self.peer, self.published.control()) {
            peer.remove_ack_socket(control.path(), &self.log);
        }
    }

    /// There is no other master any more: this one is the service.
    fn forget_peer(&mut self) {
        self.peer = None;
        self.events.number_alone();
        self.processes.leave_unreaped(None);
        if let Some(service_manager) = &mut self.service_manager {
            service_manager.say_again();
        }
    }

    /// Reads what the other master has sent, and whether it has ended.
    pub(super) fn read_peer_master(&mut self, now: Time) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        let told = peer.read(now);
        for message in peer.take_events() {
            self.hear_event(message);
        }
        for event in told {
            if let PeerEvent::Said(message) = &event {
                self.log
                    .debug(format_args!("the other master says: {message:?}"));
            }
            self.feed(Event::Peer(event));
        }
    }

    /// Tells the other master what this one has counted: before a client sees the totals, since the
    /// other master may be the service in the end and must not show less; and when a worker has
    /// ended, which may be the last one. What the link has no room for is in the next message.
    pub(super) fn tell_peer_counts(&mut self) {
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.has_room())
            && let Some(counts) = self.supervisor.counts_for_peer()
        {
            peer.send(&counts, clock::now());
        }
    }

    /// Tells the old master that this one is up.
    pub(super) fn send_hello(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if let Some(peer) = &mut self.peer {
            peer.send(&PeerMessage::Hello(own), clock::now());
        }
    }
}
