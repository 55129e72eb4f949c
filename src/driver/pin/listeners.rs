//! The listeners of a pin: open as long as workers may be started from it, and only described once
//! it is kept for nothing but a rollback and the service has other listeners.

use std::rc::Rc;

use crate::error::Result;
use crate::sys::listener::{Bound, ClosedListener, Listener};
use crate::wire::address::Name;

/// The listeners of a pin.
#[derive(Debug, Clone)]
pub enum PinnedListeners {
    /// They are open.
    Open(Rc<Vec<Listener>>),
    /// The pin holds none: what a rollback makes them from.
    Closed(Rc<[ClosedListener]>),
}

impl PinnedListeners {
    /// Those that are open.
    pub(in crate::driver) fn open(&self) -> &[Listener] {
        match self {
            PinnedListeners::Open(all) => all,
            PinnedListeners::Closed(_) => &[],
        }
    }

    /// Name and address of each.
    pub(super) fn places(&self) -> Vec<(Option<&Name>, &Bound)> {
        match self {
            PinnedListeners::Open(all) => {
                let all = all.iter();
                all.map(|it| (it.name.as_ref(), &it.address)).collect()
            }
            PinnedListeners::Closed(all) => {
                let all = all.iter();
                all.map(|it| (it.name.as_ref(), &it.address)).collect()
            }
        }
    }

    /// They, as a new generation can have them: out of those that the service has, `held`, and
    /// bound anew where it has none at that place.
    ///
    /// # Errors
    /// Exit 1: one cannot be bound. Nothing has changed.
    pub(in crate::driver) fn again(&self, held: &Rc<Vec<Listener>>) -> Result<Rc<Vec<Listener>>> {
        if let PinnedListeners::Open(all) = self
            && Rc::ptr_eq(all, held)
        {
            return Ok(Rc::clone(held));
        }
        let mut free: Vec<&Listener> = held.iter().collect();
        let mut take = |is_it: &dyn Fn(&Listener) -> bool| {
            let place = free.iter().position(|listener| is_it(listener))?;
            Some(free.remove(place))
        };
        let all: Result<Vec<Listener>> = match self {
            PinnedListeners::Open(all) => {
                let again = |known: &Listener| {
                    let same_place =
                        |it: &Listener| it.name == known.name && it.address == known.address;
                    let same = take(&|it| it.inode() == known.inode());
                    same.or_else(|| take(&same_place))
                        .unwrap_or(known)
                        .try_clone()
                };
                all.iter().map(again).collect()
            }
            PinnedListeners::Closed(all) => {
                let again = |known: &ClosedListener| match take(&|it| known.is_same(it)) {
                    Some(held) => held.try_clone(),
                    None => known.bind_anew(),
                };
                all.iter().map(again).collect()
            }
        };
        all.map(Rc::new)
    }
}
