//! The listeners of the fake world: what each generation has, and what the service is told to have.

use std::collections::{BTreeMap, BTreeSet};

use prefork_core::model::action::{Action, PinSource};
use prefork_core::model::event::Command;
use prefork_core::model::fact::Fact;
use prefork_core::model::ids::Generation;
use prefork_core::model::releases::listener_change::{ListenerChange, ListenerLabel};

use super::world::Check;

/// What a request asks for.
#[derive(Clone, Copy)]
enum Asked {
    Add,
    Remove,
}

/// All of it. A listener is a number here.
pub(super) struct Listeners {
    /// Those that new generations get.
    held: BTreeSet<u64>,
    /// Those that each generation was pinned with.
    pinned: BTreeMap<Generation, BTreeSet<u64>>,
    /// Those that events have told of.
    told: BTreeSet<u64>,
    asked: Option<Asked>,
    last: u64,
}

impl Default for Listeners {
    fn default() -> Self {
        let first = BTreeSet::from([1]);
        Listeners {
            held: first.clone(),
            pinned: BTreeMap::from([(Generation(1), first.clone())]),
            told: first,
            asked: None,
            last: 1,
        }
    }
}

fn labels(numbers: BTreeSet<u64>) -> Vec<ListenerLabel> {
    let label = |number: u64| ListenerLabel {
        name: None,
        address: number.to_string(),
    };
    numbers.into_iter().map(label).collect()
}

impl Listeners {
    /// A client asks for something.
    pub(super) fn ask(&mut self, command: &Command) {
        self.asked = match command {
            Command::AddListeners { new: true } => Some(Asked::Add),
            Command::RemoveListeners => Some(Asked::Remove),
            _ => None,
        };
    }

    /// A generation is pinned: what changes by it.
    pub(super) fn pin(&mut self, generation: Generation, source: PinSource) -> ListenerChange {
        let mut own = self.held.clone();
        match (source, self.asked) {
            (PinSource::Of(old), _) => {
                own = self.pinned.get(&old).cloned().unwrap_or(own);
            }
            (PinSource::Asked { .. }, Some(Asked::Add)) => {
                self.last += 1;
                own.insert(self.last);
            }
            (PinSource::Asked { .. }, Some(Asked::Remove)) => {
                own.pop_first();
            }
            _ => {}
        }
        let change = ListenerChange {
            added: labels(&own - &self.held),
            removed: labels(&self.held - &own),
        };
        self.pinned.insert(generation, own);
        change
    }

    /// Looks at an action: what is told of is what there is, at the end of every rollout.
    pub(super) fn see(&mut self, action: &Action) -> Check {
        let number = |label: &ListenerLabel| label.address.parse().unwrap_or(0);
        match action {
            Action::SettleListeners(generation) => {
                let own = self.pinned.get(generation);
                self.held = own.ok_or("no such generation is pinned")?.clone();
            }
            Action::Tell(Fact::ListenerAdded(label)) if !self.told.insert(number(label)) => {
                return Err(format!("listener {label} is added twice"));
            }
            Action::Tell(Fact::ListenerRemoved(label)) if !self.told.remove(&number(label)) => {
                return Err(format!("listener {label} is removed twice"));
            }
            Action::Tell(Fact::RolloutDone { .. } | Fact::RolledBack { .. })
                if self.told != self.held =>
            {
                return Err(format!(
                    "a rollout ends with the listeners {:?}, and events have told of {:?}",
                    self.held, self.told
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
