//! Which deaths the kernel's counts of OOM kills explain.
//!
//! A count tells how many processes of a cgroup were killed for want of memory, not which. So a
//! worker that died of a KILL which the master did not send was killed for that reason if the count
//! has risen since it was read last, and each rise explains one death.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::exit::OomCount;
use crate::model::time::Time;

/// How long a rise may wait for the death that it explains. Several workers that are killed at once
/// are found within a moment; a rise that is older belongs to a process that is no worker.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);

/// How many cgroups are remembered. Workers are in the master's, or in one of their own each.
const REMEMBERED: usize = 64;

/// The counts as they were read last, and what they explain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OomKills {
    /// By cgroup.
    seen: BTreeMap<String, u64>,
    /// Rises that explain no death yet, and when the last was seen.
    unclaimed: Option<(u64, Time)>,
}

impl OomKills {
    /// The counts as another image has read them last.
    pub(crate) fn taken_over(seen: BTreeMap<String, u64>) -> OomKills {
        OomKills {
            seen,
            unclaimed: None,
        }
    }

    /// The counts as they were read last.
    pub(crate) fn seen(&self) -> &BTreeMap<String, u64> {
        &self.seen
    }

    /// The count of the master's own cgroup, at its start: what was killed before is no worker.
    pub(crate) fn begin(&mut self, count: OomCount) {
        self.seen.entry(count.group).or_insert(count.kills);
    }

    /// A count was read because a worker has died of a KILL. That of a cgroup that was never looked
    /// at begins at 0: a worker that has a cgroup of its own has a new one.
    pub(crate) fn read(&mut self, now: Time, count: OomCount) {
        let before = self.seen.insert(count.group.clone(), count.kills);
        let risen = count.kills.saturating_sub(before.unwrap_or(0));
        if risen > 0 {
            self.unclaimed = Some((self.open(now) + risen, now));
        }
        if self.seen.len() > REMEMBERED {
            self.seen.retain(|group, _| *group == count.group);
        }
    }

    /// Whether a death is explained: each rise explains one.
    pub(crate) fn explains(&mut self, now: Time) -> bool {
        let open = self.open(now);
        if let Some((rises, _)) = &mut self.unclaimed {
            *rises = open.saturating_sub(1);
        }
        open > 0
    }

    fn open(&self, now: Time) -> u64 {
        let fresh = |(_, at): &(u64, Time)| now.since(*at) <= CLAIM_WITHIN;
        self.unclaimed.filter(fresh).map_or(0, |(rises, _)| rises)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(kills: u64) -> OomCount {
        OomCount {
            group: "a".into(),
            kills,
        }
    }

    #[test]
    fn r70_a_rise_explains_one_death() {
        let mut kills = OomKills::default();
        kills.begin(count(3));
        let now = Time(1);
        kills.read(now, count(3));
        assert!(!kills.explains(now));
        kills.read(now, count(5));
        assert!(kills.explains(now));
        kills.read(now, count(5));
        assert!(kills.explains(now));
        kills.read(now, count(5));
        assert!(!kills.explains(now));
    }

    #[test]
    fn an_old_rise_explains_nothing() {
        let mut kills = OomKills::default();
        kills.begin(count(0));
        kills.read(Time(1), count(1));
        assert!(!kills.explains(Time(1) + CLAIM_WITHIN + Duration::from_secs(1)));
    }

    #[test]
    fn a_cgroup_of_its_own_begins_at_0_and_few_are_remembered() {
        let mut kills = OomKills::default();
        for number in 0..1000 {
            let group = format!("worker-{number}");
            kills.read(Time(1), OomCount { group, kills: 1 });
            assert!(kills.explains(Time(1)));
        }
        assert!(kills.seen().len() <= REMEMBERED);
    }
}
