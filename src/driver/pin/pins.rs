//! All pins that workers can still be started from, and what the next one is made of.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Pin, Recipe, Settings};
use crate::error::Result;
use crate::model::ids::Generation;
use crate::model::policy::Policy;
use crate::sys::listener::Listener;
use crate::wire::changes::Changes;

/// The settings of the next generation, and the pins of those that are there.
pub(in crate::driver) struct Pins {
    pub(super) settings: Settings,
    policy: Rc<Policy>,
    pub(super) by_generation: BTreeMap<Generation, Rc<Pin>>,
}

impl Pins {
    pub(in crate::driver) fn new(settings: Settings) -> Self {
        Pins {
            policy: Rc::new(settings.policy.clone()),
            settings,
            by_generation: BTreeMap::new(),
        }
    }

    pub(in crate::driver) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(in crate::driver) fn recipe(&self) -> &Recipe {
        &self.settings.recipe
    }

    pub(in crate::driver) fn policy(&self) -> &Rc<Policy> {
        &self.policy
    }

    pub(in crate::driver) fn get(&self, generation: Generation) -> Option<&Rc<Pin>> {
        self.by_generation.get(&generation)
    }

    /// In the order of their generations.
    pub(in crate::driver) fn iter(&self) -> impl Iterator<Item = &Rc<Pin>> {
        self.by_generation.values()
    }

    pub(in crate::driver) fn insert(&mut self, pin: Pin) {
        self.by_generation.insert(pin.generation, Rc::new(pin));
    }

    /// No worker will be started from this generation any more.
    pub(in crate::driver) fn forget(&mut self, generation: Generation) {
        self.by_generation.remove(&generation);
    }

    /// Forgets all pins, and so closes the listeners that only pins hold.
    pub(in crate::driver) fn forget_all(&mut self) {
        self.by_generation.clear();
    }

    /// A pin for `generation`, with the changes that hold already and those of this request.
    ///
    /// The changes that hold are those of the generation that serves: so a change is undone
    /// together with its generation, and only then.
    ///
    /// # Errors
    /// As [`Recipe::pin`].
    pub(in crate::driver) fn resolve(
        &self,
        generation: Generation,
        serving: Generation,
        listeners: &Rc<Vec<Listener>>,
        changes: &Changes,
    ) -> Result<Pin> {
        let serving = self.by_generation.get(&serving);
        let known = serving.map(|pin| pin.changes.clone()).unwrap_or_default();
        self.settings.recipe.pin(
            generation,
            Rc::clone(&self.policy),
            Rc::clone(listeners),
            known.followed_by(changes),
        )
    }
}
