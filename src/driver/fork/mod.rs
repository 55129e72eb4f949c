//! An upgrade by fork: another master beside this one (U16 to U20). What it means is the model's ([`beside`](crate::model::fork)); here is what
//! it takes.
//!
//! - `begin`: the old one gives its names away, writes down what it leaves, and starts the new one.
//! - `other`: the process beside this one, and the line to it.
//! - `names`: the pid file and the control socket, given away and taken back.
//! - [`bequest`]: the new one takes what was left to it.

pub mod inherited;
mod names;
mod peer_master;
mod start;

use crate::model::event::Event;
use crate::model::peer::{PeerAction, PeerEvent, PeerMessage};
use crate::model::time::Time;

use super::Driver;

pub use inherited::InheritedFork;
pub(super) use names::PublishedPaths;
pub(super) use peer_master::PeerMaster;

impl Driver {
    /// Does what the model says about the other master.
    pub(super) fn beside(&mut self, deed: PeerAction) -> Option<Event> {
        match deed {
            PeerAction::Beget(heir) => return Some(Event::Beside(self.fork_master(*heir))),
            PeerAction::Tell(told) => {
                if let Some(other) = &mut self.other {
                    other.tell(&told);
                }
            }
            PeerAction::Kill => {
                if let Some(other) = &self.other {
                    other.kill();
                }
            }
            PeerAction::TakeNamesBack => {
                self.take_names_back();
                self.remove_acks_of_other();
                self.alone();
            }
            PeerAction::RemoveOldNames => {
                if let Some(other) = &self.other {
                    other.remove_its_names(&self.log);
                }
                self.remove_acks_of_other();
                self.alone();
            }
            PeerAction::Succeeded => {
                if let (Some(other), Some(upward)) = (&self.other, &mut self.upward) {
                    upward.hand_over(other.pid().unsigned_abs(), &self.log);
                }
            }
            PeerAction::PassOn(signal) => {
                if let Some(other) = &self.other {
                    other.signal(signal);
                }
            }
        }
        None
    }

    /// It did not remove what it was killed with.
    fn remove_acks_of_other(&self) {
        if let (Some(other), Some(control)) = (&self.other, &self.control) {
            other.remove_its_acks(control.path(), &self.log);
        }
    }

    /// There is no other master any more: this one is the service.
    fn alone(&mut self) {
        self.other = None;
        self.processes.spare(None);
        if let Some(upward) = &mut self.upward {
            upward.say_again();
        }
    }

    /// Takes what the other master says, and its end.
    pub(super) fn hear_other(&mut self, now: Time) {
        let Some(other) = &mut self.other else {
            return;
        };
        for happened in other.hear(now) {
            if let PeerEvent::Said(told) = &happened {
                self.log
                    .debug(format_args!("the other master says: {told:?}"));
            }
            let dropped = happened == PeerEvent::Dropped;
            self.feed(Event::Beside(happened));
            if dropped {
                self.other = None;
            }
        }
    }

    /// Tells the old master that this one stands.
    pub(super) fn greet(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if let Some(other) = &mut self.other {
            other.tell(&PeerMessage::Hello(own));
        }
    }
}
