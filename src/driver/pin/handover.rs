//! Pins from one image of the master to the next, and to a new master beside this one.

use std::rc::Rc;

use super::{Pin, PinnedListeners, Pins};
use crate::error::{Error, Result};
use crate::model::ids::Generation;
use crate::sys::listener::{ClosedListener, Listener};
use crate::wire::environment::VariablePool;
use crate::wire::handover;
use crate::wire::text::Text;

/// The sets of listeners that generations have. Several generations share one set, so a pin is
/// written with the index of its set.
pub(in crate::driver) type ListenerSets = Vec<Rc<Vec<Listener>>>;

impl Pins {
    /// Restores the pins that were handed over.
    ///
    /// # Errors
    /// As [`Pin::taken_over`].
    pub(in crate::driver) fn take_over(
        &mut self,
        pins: Vec<handover::Pin>,
        sets: &ListenerSets,
    ) -> Result<()> {
        let known = self.recipe().workers_environment();
        let mut variables = VariablePool::new(&known);
        for pin in pins {
            let nofile = self.recipe().nofile;
            self.insert(Pin::taken_over(pin, sets, &mut variables, nofile)?);
        }
        Ok(())
    }
}

impl Pin {
    /// For the next image; `sets`: a set of listeners that is not among them is added.
    pub(in crate::driver) fn handed_over(&self, sets: &mut ListenerSets) -> handover::Pin {
        match &self.listeners {
            PinnedListeners::Open(own) => {
                let known = sets.iter().position(|set| Rc::ptr_eq(set, own));
                let place = known.unwrap_or_else(|| {
                    sets.push(Rc::clone(own));
                    sets.len() - 1
                });
                self.written(place, None)
            }
            PinnedListeners::Closed(all) => self.written(0, Some(all)),
        }
    }

    /// For a new master beside this one, which gets only the set `held`. A pin that has another
    /// set open is described as one that is closed: the new master starts no worker from it but by
    /// a rollback, which finds the listeners again among those that it has.
    pub(in crate::driver) fn handed_to_new_master(
        &self,
        held: &Rc<Vec<Listener>>,
    ) -> handover::Pin {
        match &self.listeners {
            PinnedListeners::Open(own) if Rc::ptr_eq(own, held) => self.written(0, None),
            PinnedListeners::Open(own) => {
                let all: Vec<_> = own.iter().map(ClosedListener::of).collect();
                self.written(0, Some(&all))
            }
            PinnedListeners::Closed(all) => self.written(0, Some(all)),
        }
    }

    /// `listeners`: the place of its set; `closed`: how they were bound.
    fn written(&self, listeners: usize, closed: Option<&[ClosedListener]>) -> handover::Pin {
        let closed = closed.map(|all| all.iter().map(ClosedListener::handed_over).collect());
        handover::Pin {
            generation: self.generation.0,
            policy: (&*self.policy).into(),
            cwd: self.cwd.as_path().into(),
            program: self.program.as_path().into(),
            command: self
                .command
                .iter()
                .map(|arg| arg.as_os_str().into())
                .collect(),
            environment: self.environment.clone(),
            listeners,
            changes: self.changes.clone(),
            exports: self.exports.clone(),
            beat_fd: self.beat_fd,
            notify_dir: self.notify_dir.as_deref().map(Text::from),
            closed,
        }
    }

    /// From the image before, or from the old master; `variables`: those that this image has
    /// already; `nofile` as in the recipe.
    ///
    /// # Errors
    /// Exit 111: `sets` has no such set. Else as [`Pin::new`].
    pub(in crate::driver) fn taken_over(
        pin: handover::Pin,
        sets: &ListenerSets,
        variables: &mut VariablePool<'_>,
        nofile: Option<(u64, u64)>,
    ) -> Result<Pin> {
        let listeners = sets
            .get(pin.listeners)
            .ok_or_else(|| Error::system("cannot take a generation over", "it has no listeners"))?;
        let listeners = match &pin.closed {
            None => Rc::clone(listeners),
            Some(_) => Rc::default(),
        };
        let taken = Pin::new(
            Generation(pin.generation),
            Rc::new(pin.policy.into()),
            pin.cwd.into_path(),
            pin.program.into_path(),
            pin.command.into_iter().map(|arg| arg.0).collect(),
            variables.share(&pin.environment),
            listeners,
            pin.exports,
            pin.beat_fd,
            pin.notify_dir.map(Text::into_path),
            nofile,
            pin.changes,
        )?;
        Ok(match pin.closed {
            None => taken,
            Some(all) => Pin {
                listeners: PinnedListeners::Closed(
                    all.into_iter().map(ClosedListener::taken_over).collect(),
                ),
                ..taken
            },
        })
    }
}
