//! The generations that there were, and the releases that can be gone back to.
//!
//! A *release* is what a generation was pinned from. A rollback makes a new generation of an old
//! release, and so does a reload that pins the same facts: so a release is named by its first
//! generation, and generations are compared by their releases.
//!
//! [`listener_change`]: which listeners a new generation has, and the one that serves has not.

pub mod listener_change;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::ids::Generation;
use super::operation::OperationKind;
use super::policy::Policy;
use super::time::Time;
use listener_change::ListenerChange;

/// How many releases are kept, besides the one that serves.
pub const RELEASES_KEPT: usize = 5;

/// How many generations are remembered; those of kept releases are, however old they are.
pub const GENERATIONS_REMEMBERED: usize = 100;

/// How far a rollout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `RolloutResult::name`")]
pub enum RolloutResult {
    Running,
    Done,
    RolledBack,
    Aborted,
}

impl RolloutResult {
    /// Every result.
    pub const ALL: [RolloutResult; 4] = [
        RolloutResult::Running,
        RolloutResult::Done,
        RolloutResult::RolledBack,
        RolloutResult::Aborted,
    ];

    /// The word in the status document.
    pub const fn name(self) -> &'static str {
        match self {
            RolloutResult::Running => "running",
            RolloutResult::Done => "done",
            RolloutResult::RolledBack => "rolled-back",
            RolloutResult::Aborted => "aborted",
        }
    }
}

/// What a generation was pinned from, in words for people. Empty: it is not known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleaseLabel {
    /// The working directory.
    pub directory: String,
    /// `PF_RELEASE`.
    pub name: Option<String>,
    /// The worker command.
    pub command: Vec<String>,
}

impl ReleaseLabel {
    /// The release's name; where it has none, its directory.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.directory)
    }
}

/// What the driver knows of a generation that it has pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinnedRelease {
    /// In words.
    pub label: ReleaseLabel,
    /// An earlier generation that was pinned to the same facts.
    pub same_as: Option<Generation>,
    /// The listeners that it has and the generation that serves has not, and the other way round.
    pub listeners: ListenerChange,
}

/// One generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRecord {
    /// Its number.
    pub generation: Generation,
    /// The first generation of its release.
    pub release: Generation,
    /// The generation by which its release was deployed: not one that a rollback or a rehearsal
    /// made.
    pub deployed: Generation,
    /// What made it.
    pub kind: OperationKind,
    /// Its release, in words.
    pub label: ReleaseLabel,
    /// When its rollout began.
    pub began: Time,
    /// How long that took; None: it runs.
    pub took: Option<Duration>,
    /// How far that has come.
    pub result: RolloutResult,
    /// Why it was not done.
    pub error: Option<String>,
}

/// A release that has served and does not serve now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRelease {
    /// Its last generation, whose pin is kept.
    pub generation: Generation,
    /// The settings of that.
    pub policy: Rc<Policy>,
    /// A rollback has gone from it to an older one: it is not gone back to unless it is named.
    pub rolled_away: bool,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    /// The generations, oldest first.
    pub records: VecDeque<GenerationRecord>,
    /// The releases that can be gone back to; the one that served last is the last.
    pub kept: Vec<KeptRelease>,
}

impl Releases {
    /// The record of a generation.
    pub fn record(&self, generation: Generation) -> Option<&GenerationRecord> {
        let known = |record: &&GenerationRecord| record.generation == generation;
        self.records.iter().rev().find(known)
    }

    /// The release of a generation: its first generation.
    pub fn release_of(&self, generation: Generation) -> Option<Generation> {
        self.record(generation).map(|record| record.release)
    }

    fn deployed_by(&self, generation: Generation) -> Option<Generation> {
        self.record(generation).map(|record| record.deployed)
    }

    /// A generation begins, made by `kind`; whether that deploys it.
    pub(crate) fn begin(
        &mut self,
        generation: Generation,
        kind: OperationKind,
        (pinned, is_deployed): (PinnedRelease, bool),
        now: Time,
    ) {
        let same = pinned.same_as.and_then(|same| self.record(same));
        let release = same.map_or(generation, |same| same.release);
        let deployed = same.filter(|_| !is_deployed).map(|same| same.deployed);
        self.records.push_back(GenerationRecord {
            generation,
            release,
            deployed: deployed.unwrap_or(generation),
            kind,
            label: pinned.label,
            began: now,
            took: None,
            result: RolloutResult::Running,
            error: None,
        });
        let surplus = self.records.len().saturating_sub(GENERATIONS_REMEMBERED);
        for _ in 0..surplus {
            let is_kept = |record: &GenerationRecord| {
                self.kept
                    .iter()
                    .any(|it| it.generation == record.generation)
            };
            // The last two are the one that begins and, at most, the one that serves.
            let oldest = self.records.iter().position(|record| !is_kept(record));
            if let Some(oldest) = oldest {
                self.records.remove(oldest);
            }
        }
    }

    /// A generation never began.
    pub(crate) fn cancel(&mut self, generation: Generation) {
        self.records
            .retain(|record| record.generation != generation);
    }

    /// How a generation's rollout ended.
    pub(crate) fn end(
        &mut self,
        generation: Generation,
        took: Duration,
        result: RolloutResult,
        error: Option<String>,
    ) {
        let known = |record: &&mut GenerationRecord| record.generation == generation;
        if let Some(record) = self.records.iter_mut().rev().find(known) {
            record.took = Some(took);
            record.result = result;
            record.error = error;
        }
    }

    /// `generation` serves now, and `old` did before. The generations that no worker will be
    /// started from any more.
    pub(crate) fn serves(
        &mut self,
        generation: Generation,
        old: Option<(Generation, Rc<Policy>)>,
    ) -> Vec<Generation> {
        if let Some((old, policy)) = old {
            // A release that is named may be newer than the one that serves.
            let went_back = self.deployed_by(generation) < self.deployed_by(old);
            self.kept.push(KeptRelease {
                generation: old,
                policy,
                rolled_away: went_back,
            });
        }
        let release = self.release_of(generation);
        let (mut gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition(|kept| release.is_some() && self.release_of(kept.generation) == release);
        self.kept = kept;
        let surplus = self.kept.len().saturating_sub(RELEASES_KEPT);
        gone.extend(self.kept.drain(..surplus));
        gone.into_iter().map(|gone| gone.generation).collect()
    }

    /// What a rollback goes to: the release that served last and was not itself rolled away from.
    pub(crate) fn before(&self) -> Option<Generation> {
        let may_serve = |kept: &&KeptRelease| !kept.rolled_away;
        let kept = self.kept.iter().rev().find(may_serve)?;
        Some(kept.generation)
    }

    /// The kept generation of the same release.
    pub(crate) fn kept_like(&self, generation: Generation) -> Option<Generation> {
        let release = self.release_of(generation)?;
        let same = |kept: &&KeptRelease| self.release_of(kept.generation) == Some(release);
        self.kept.iter().find(same).map(|kept| kept.generation)
    }

    /// What serves, in words: `generation 4, /srv/releases/1`.
    pub fn name(&self, generation: Generation) -> String {
        let record = self.record(generation);
        match record.map(|record| record.label.title()) {
            None | Some("") => format!("generation {generation}"),
            Some(title) => format!("generation {generation}, {title},"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deploy(releases: &mut Releases, number: u64, kind: OperationKind, same_as: Option<u64>) {
        let pinned = PinnedRelease {
            same_as: same_as.map(Generation),
            ..PinnedRelease::default()
        };
        let is_deployed = kind != OperationKind::Rollback;
        releases.begin(Generation(number), kind, (pinned, is_deployed), Time(0));
    }

    /// Generation `number` serves in place of `old`; what is forgotten.
    fn serve(releases: &mut Releases, number: u64, old: u64) -> Vec<u64> {
        let old = (Generation(old), Rc::new(Policy::default()));
        let gone = releases.serves(Generation(number), Some(old));
        gone.into_iter().map(|gone| gone.0).collect()
    }

    #[test]
    fn a_rollback_never_goes_forward() {
        let (reload, back) = (OperationKind::Reload, OperationKind::Rollback);
        let mut releases = Releases::default();
        for number in 1..=3 {
            deploy(&mut releases, number, reload, None);
            if number > 1 {
                assert!(serve(&mut releases, number, number - 1).is_empty());
            }
        }
        assert_eq!(releases.before(), Some(Generation(2)));
        deploy(&mut releases, 4, back, Some(2));
        assert_eq!(serve(&mut releases, 4, 3), [2]);
        assert_eq!(releases.before(), Some(Generation(1)));
        deploy(&mut releases, 5, back, Some(1));
        assert_eq!(serve(&mut releases, 5, 4), [1]);
        assert_eq!(releases.before(), None);
        // The third release is deployed again: the first served last.
        deploy(&mut releases, 6, reload, Some(3));
        assert_eq!(serve(&mut releases, 6, 5), [3]);
        assert_eq!(releases.before(), Some(Generation(5)));
        assert_eq!(releases.kept_like(Generation(2)), Some(Generation(4)));
        // A release that is named may be newer: the one that is left is none that failed.
        deploy(&mut releases, 7, back, Some(5));
        serve(&mut releases, 7, 6);
        deploy(&mut releases, 8, back, Some(6));
        serve(&mut releases, 8, 7);
        assert_eq!(releases.before(), Some(Generation(7)));
    }

    #[test]
    fn five_releases_are_kept_and_a_hundred_generations_remembered() {
        let mut releases = Releases::default();
        deploy(&mut releases, 1, OperationKind::Start, None);
        let mut gone = Vec::new();
        for number in 2..=150 {
            deploy(&mut releases, number, OperationKind::Reload, None);
            gone.extend(serve(&mut releases, number, number - 1));
        }
        assert_eq!(gone, (1..=144).collect::<Vec<u64>>());
        assert_eq!(releases.records.len(), GENERATIONS_REMEMBERED);
        // The same release again and again takes no place.
        for number in 151..=160 {
            deploy(
                &mut releases,
                number,
                OperationKind::Reload,
                Some(number - 1),
            );
            assert_eq!(serve(&mut releases, number, number - 1), [number - 1]);
        }
        assert_eq!(releases.before(), Some(Generation(149)));
    }
}
