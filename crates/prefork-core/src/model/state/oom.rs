//! Which deaths the kernel's counts of OOM kills explain.
//!
//! A count tells how many processes of a cgroup were killed for want of memory, not which. So a
//! worker that died of a KILL which the master did not send was killed for that reason if the count
//! has risen since a worker ended last, and each rise explains one death.
//!
//! The count is read whenever a worker ends, however it ends. What has risen until a worker ends in
//! another way than by a KILL is passed over: it was a process that is no worker (a worker's child,
//! say), and must not explain a KILL that comes from elsewhere hours later.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::exit::OomCount;
use crate::model::time::Time;

/// How long a rise that was found at a death by KILL may explain further ones, from when it was
/// found: workers that are killed at once are found within a moment.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);

/// How many cgroups are remembered. Workers are in the master's, or in one of their own each.
const REMEMBERED: usize = 64;

/// The counts as they were read last, and what they explain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OomKills {
    groups: BTreeMap<String, Known>,
    /// The master's own cgroup.
    own: Option<String>,
}

/// What is known of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The count as it was read last.
    kills: u64,
    /// When.
    read_at: Time,
    /// Rises that explain no death yet.
    rises: u64,
    /// When the last of them was found.
    found_at: Time,
}

impl Known {
    fn new(kills: u64, now: Time) -> Known {
        Known {
            kills,
            read_at: now,
            rises: 0,
            found_at: now,
        }
    }
}

impl OomKills {
    /// The counts as another image has read them last.
    pub(crate) fn taken_over(seen: BTreeMap<String, u64>) -> OomKills {
        let known = |(group, kills)| (group, Known::new(kills, Time(0)));
        OomKills {
            groups: seen.into_iter().map(known).collect(),
            own: None,
        }
    }

    /// The counts as they were read last.
    pub(crate) fn seen(&self) -> BTreeMap<String, u64> {
        let groups = self.groups.iter();
        groups
            .map(|(group, known)| (group.clone(), known.kills))
            .collect()
    }

    /// The count of the master's own cgroup, at its start: what was killed before is no worker.
    /// What another image has read counts more, as a worker may have been killed since.
    pub(crate) fn begin(&mut self, count: OomCount) {
        self.own = Some(count.group.clone());
        let known = Known::new(count.kills, Time(0));
        self.groups.entry(count.group).or_insert(known);
    }

    /// A count was read because a worker has died of a KILL. That of a cgroup that was never looked
    /// at begins at 0: a worker that has a cgroup of its own has a new one.
    pub(crate) fn read(&mut self, now: Time, count: OomCount) {
        self.make_room(&count.group);
        let known = self.groups.entry(count.group);
        let known = known.or_insert_with(|| Known::new(0, now));
        let risen = count.kills.saturating_sub(known.kills);
        if risen > 0 {
            known.rises = open(known, now) + risen;
            known.found_at = now;
        }
        known.kills = count.kills;
        known.read_at = now;
    }

    /// A count was read because a worker has ended in another way: what has risen is no worker.
    pub(crate) fn pass_over(&mut self, now: Time, count: OomCount) {
        self.make_room(&count.group);
        let known = Known::new(count.kills, now);
        self.groups.insert(count.group, known);
    }

    /// Whether a death in this cgroup is explained: each rise explains one.
    pub(crate) fn explains(&mut self, now: Time, group: &str) -> bool {
        let Some(known) = self.groups.get_mut(group) else {
            return false;
        };
        let rises = open(known, now);
        known.rises = rises.saturating_sub(1);
        rises > 0
    }

    /// Room for one more cgroup than this: those that were read longest ago are forgotten, but
    /// never the master's own, in which most workers are.
    fn make_room(&mut self, group: &str) {
        while self.groups.len() >= REMEMBERED && !self.groups.contains_key(group) {
            let others = self.groups.iter();
            let others = others.filter(|(name, _)| self.own.as_ref() != Some(name));
            let oldest = others.min_by_key(|(_, known)| known.read_at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                return;
            };
            self.groups.remove(&oldest);
        }
    }
}

/// The rises that explain no death yet, and may still.
fn open(known: &Known, now: Time) -> u64 {
    if now.since(known.found_at) <= CLAIM_WITHIN {
        known.rises
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(kills: u64) -> OomCount {
        of("a", kills)
    }

    fn of(group: &str, kills: u64) -> OomCount {
        let group = group.into();
        OomCount { group, kills }
    }

    #[test]
    fn r70_a_rise_explains_one_death() {
        let mut kills = OomKills::default();
        kills.begin(count(3));
        let now = Time(1);
        kills.read(now, count(3));
        assert!(!kills.explains(now, "a"));
        kills.read(now, count(5));
        assert!(kills.explains(now, "a"));
        kills.read(now, count(5));
        assert!(kills.explains(now, "a"));
        kills.read(now, count(5));
        assert!(!kills.explains(now, "a"));
    }

    #[test]
    fn an_old_rise_explains_nothing() {
        let mut kills = OomKills::default();
        kills.begin(count(0));
        kills.read(Time(1), count(1));
        let late = Time(1) + CLAIM_WITHIN + Duration::from_secs(1);
        assert!(!kills.explains(late, "a"));
    }

    #[test]
    fn a_rise_until_another_end_explains_nothing() {
        let mut kills = OomKills::default();
        kills.begin(count(0));
        kills.pass_over(Time(1), count(2));
        kills.read(Time(2), count(2));
        assert!(!kills.explains(Time(2), "a"));
        kills.read(Time(3), count(4));
        assert!(kills.explains(Time(3), "a"));
        kills.pass_over(Time(3), count(4));
        assert!(!kills.explains(Time(3), "a"));
    }

    #[test]
    fn a_rise_explains_no_death_in_another_cgroup() {
        let mut kills = OomKills::default();
        kills.begin(count(0));
        kills.read(Time(1), count(2));
        kills.read(Time(1), of("b", 0));
        assert!(!kills.explains(Time(1), "b"));
        assert!(kills.explains(Time(1), "a"));
    }

    #[test]
    fn a_cgroup_of_its_own_begins_at_0_and_few_are_remembered() {
        let mut kills = OomKills::default();
        kills.begin(count(7));
        for number in 0..1000 {
            let group = format!("worker-{number}");
            kills.read(Time(number), of(&group, 1));
            assert!(kills.explains(Time(number), &group));
        }
        assert_eq!(kills.seen().len(), REMEMBERED);
        assert!(kills.seen().contains_key("worker-999"));
        // The master's own is not forgotten, so what it counted before is no death of a worker.
        kills.read(Time(1000), count(7));
        assert!(!kills.explains(Time(1000), "a"));
        // Nor in the next image.
        let mut next = OomKills::taken_over(kills.seen());
        next.begin(count(8));
        for number in 1000..2000 {
            next.pass_over(Time(number), of(&format!("worker-{number}"), 0));
        }
        next.read(Time(2000), count(8));
        assert!(next.explains(Time(2000), "a"));
        assert!(!next.explains(Time(2000), "a"));
    }
}
