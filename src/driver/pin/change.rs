//! A change of the listeners: the pin of a generation that has others, and the end of those that
//! the service has no more.

use std::rc::Rc;

use super::environment::beat_fd;
use super::{Pin, PinnedListeners, Pins, failed};
use crate::error::{Error, Result};
use crate::model::ids::Generation;
use crate::model::policy::Readiness;
use crate::sys::listener::{Bound, ClosedListener, Listener};
use crate::wire::exports;
use crate::wire::listen_env::FIRST_FD;

/// A set of listeners, and how each of it can be bound.
type Described = (Rc<Vec<Listener>>, Rc<[ClosedListener]>);

impl Pins {
    /// The facts of the generation that serves, with these listeners.
    ///
    /// # Errors
    /// As [`Pin::renumbered`].
    pub(in crate::driver) fn with_listeners(
        &self,
        generation: Generation,
        serving: Generation,
        listeners: Vec<Listener>,
    ) -> Result<Pin> {
        let serving = self.get(serving);
        let serving = serving.ok_or_else(|| failed("cannot roll".to_owned(), "nothing serves"))?;
        let beat_fd = beat_fd(listeners.len(), serving.policy.ready, &self.recipe().keep);
        serving.renumbered(generation, Rc::new(listeners), beat_fd)
    }

    /// Why workers of the generation that serves could not have these listeners; None: they could.
    pub(in crate::driver) fn why_not_with(
        &self,
        serving: Generation,
        listeners: &[&Listener],
    ) -> Option<Error> {
        let serving = self.get(serving)?;
        let end = FIRST_FD.saturating_add(i32::try_from(listeners.len()).unwrap_or(i32::MAX));
        let ready = match serving.policy.ready {
            Readiness::Fd(number) => Some(("--ready fd=", number)),
            Readiness::Auto
            | Readiness::Notify
            | Readiness::Heartbeat
            | Readiness::Delay(_)
            | Readiness::Exec => None,
        };
        let kept = self.recipe().keep.iter();
        let kept = kept.map(|number| ("--keep-fd ", *number));
        let mut numbers = kept.chain(ready);
        let taken = numbers.find(|(_, number)| (FIRST_FD..end).contains(number));
        if let Some((what, number)) = taken {
            let last = end - 1;
            let why = format!("the listeners would take fds {FIRST_FD} to {last} of the workers");
            return Some(Error::usage(format!("{what}{number} is in the way: {why}")));
        }
        let addresses: Vec<&Bound> = listeners.iter().map(|it| &it.address).collect();
        let rendered = exports::render(&serving.exports, &addresses, FIRST_FD);
        rendered.err().map(Error::usage)
    }

    /// `serving` serves, with these listeners: every other pin lets go of those that it has open,
    /// and remembers how each can be bound.
    pub(in crate::driver) fn close_all_but(
        &mut self,
        serving: Generation,
        listeners: &Rc<Vec<Listener>>,
    ) {
        let mut known: Vec<Described> = Vec::new();
        for pin in self.by_generation.values_mut() {
            let PinnedListeners::Open(own) = &pin.listeners else {
                continue;
            };
            if pin.generation == serving || Rc::ptr_eq(own, listeners) {
                continue;
            }
            let described = known.iter().find(|(set, _)| Rc::ptr_eq(set, own));
            let described = match described {
                Some((_, described)) => Rc::clone(described),
                None => {
                    let described: Rc<[_]> = own.iter().map(ClosedListener::of).collect();
                    known.push((Rc::clone(own), Rc::clone(&described)));
                    described
                }
            };
            // Pins are shared for the length of a spawn or a status, and this is neither.
            if let Some(pin) = Rc::get_mut(pin) {
                pin.listeners = PinnedListeners::Closed(described);
            }
        }
    }

    /// The listeners that pins have open.
    pub(in crate::driver) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.by_generation
            .values()
            .flat_map(|pin: &Rc<Pin>| pin.listeners.open())
    }
}
