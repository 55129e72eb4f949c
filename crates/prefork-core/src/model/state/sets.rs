//! Members in sets, both ways: which members a set has, and which sets a member is in.
//!
//! After each event the supervisor asks the same questions of all slots and all workers. A scan for
//! each would make an event cost more where there are more workers, and a reload of N workers would
//! cost N times N. So the answers are kept: `slot_sets` and `workers` say what the sets are, and
//! when a slot or a worker has changed, it alone is filed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::looks;

/// Members `M` in sets that have a name `S`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sets<S, M> {
    /// Sets that have a member.
    members: BTreeMap<S, BTreeSet<M>>,
    /// Members that are in a set.
    of: BTreeMap<M, Vec<S>>,
}

impl<S, M> Default for Sets<S, M> {
    fn default() -> Self {
        Sets {
            members: BTreeMap::new(),
            of: BTreeMap::new(),
        }
    }
}

impl<S: Copy + Ord, M: Copy + Ord> Sets<S, M> {
    /// The member is in these sets from now on, and in no others.
    pub(crate) fn file(&mut self, member: M, sets: Vec<S>) {
        looks::add(1);
        let known = self.of.get(&member);
        if known.map_or(sets.is_empty(), |known| *known == sets) {
            return;
        }
        for set in self.of.remove(&member).unwrap_or_default() {
            if let Some(members) = self.members.get_mut(&set) {
                members.remove(&member);
                if members.is_empty() {
                    self.members.remove(&set);
                }
            }
        }
        if sets.is_empty() {
            return;
        }
        for set in &sets {
            self.members.entry(*set).or_default().insert(member);
        }
        self.of.insert(member, sets);
    }

    /// How many members it has.
    pub(crate) fn len(&self, set: S) -> usize {
        self.members.get(&set).map_or(0, BTreeSet::len)
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self, set: S) -> bool {
        !self.members.contains_key(&set)
    }

    /// Its members, in order.
    pub(crate) fn members(&self, set: S) -> impl Iterator<Item = M> + '_ {
        let members = self.members.get(&set);
        members.into_iter().flatten().copied().inspect(look)
    }

    /// Its first member from this one on.
    pub(crate) fn next_member(&self, set: S, from: M) -> Option<M> {
        self.members.get(&set)?.range(from..).next().copied()
    }

    /// The sets in this range that have members, in order.
    pub(crate) fn names(
        &self,
        range: RangeInclusive<S>,
    ) -> impl DoubleEndedIterator<Item = S> + '_ {
        self.members.range(range).map(|(set, _)| *set)
    }

    /// The members of all sets in this range: set after set.
    pub(crate) fn members_of_all(&self, range: RangeInclusive<S>) -> impl Iterator<Item = M> + '_ {
        let sets = self.members.range(range);
        sets.flat_map(|(_, members)| members).copied().inspect(look)
    }
}

fn look<M>(_: &M) {
    looks::add(1);
}
