//! The generations so far, and the releases that can be gone back to, as JSON has them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::changes::result;
use super::values::{KindName, Moment, Settings};
use crate::model::ids::Generation;
use crate::model::operation::OperationKind;
use crate::model::policy::Policy;
use crate::model::releases::{GenerationRecord, KeptRelease, ReleaseLabel, Releases};
use crate::model::state::rollout::RolloutResult;
use crate::model::time::Time;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KnownGeneration {
    generation: u64,
    release: u64,
    deployed: u64,
    kind: KindName,
    directory: String,
    name: Option<String>,
    command: Vec<String>,
    began: Moment,
    took: Option<Duration>,
    result: String,
    error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    generation: u64,
    settings: Settings,
    rolled_away: bool,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct KnownReleases {
    generations: Vec<KnownGeneration>,
    kept: Vec<Kept>,
}

impl From<&GenerationRecord> for KnownGeneration {
    fn from(record: &GenerationRecord) -> Self {
        KnownGeneration {
            generation: record.generation.0,
            release: record.release.0,
            deployed: record.deployed.0,
            kind: KindName(record.kind),
            directory: record.label.directory.clone(),
            name: record.label.name.clone(),
            command: record.label.command.clone(),
            began: record.began.into(),
            took: record.took,
            result: record.result.name().to_owned(),
            error: record.error.clone(),
        }
    }
}

impl TryFrom<KnownGeneration> for GenerationRecord {
    type Error = String;

    fn try_from(known: KnownGeneration) -> Result<Self, String> {
        Ok(GenerationRecord {
            generation: Generation(known.generation),
            release: Generation(known.release),
            deployed: Generation(known.deployed),
            kind: known.kind.0,
            label: ReleaseLabel {
                directory: known.directory,
                name: known.name,
                command: known.command,
            },
            began: known.began.into(),
            took: known.took,
            result: result(&known.result)?,
            error: known.error,
        })
    }
}

impl From<&Releases> for KnownReleases {
    fn from(releases: &Releases) -> Self {
        let kept = |kept: &KeptRelease| Kept {
            generation: kept.generation.0,
            settings: Settings::from(&*kept.policy),
            rolled_away: kept.rolled_away,
        };
        KnownReleases {
            generations: releases.records.iter().map(Into::into).collect(),
            kept: releases.kept.iter().map(kept).collect(),
        }
    }
}

impl TryFrom<KnownReleases> for Releases {
    type Error = String;

    fn try_from(known: KnownReleases) -> Result<Self, String> {
        let kept = |kept: Kept| KeptRelease {
            generation: Generation(kept.generation),
            policy: Rc::new(kept.settings.into()),
            rolled_away: kept.rolled_away,
        };
        let records = known.generations.into_iter();
        Ok(Releases {
            records: records.map(TryInto::try_into).collect::<Result<_, _>>()?,
            kept: known.kept.into_iter().map(kept).collect(),
        })
    }
}

/// What an image of the format's first version leaves: the generation that serves, and the one
/// before.
pub fn before_they_were_known(
    serving: u64,
    previous: Option<u64>,
    policies: &BTreeMap<Generation, Rc<Policy>>,
) -> Releases {
    let record = |generation: u64| GenerationRecord {
        generation: Generation(generation),
        release: Generation(generation),
        deployed: Generation(generation),
        kind: OperationKind::Reload,
        label: ReleaseLabel::default(),
        began: Time(0),
        took: None,
        result: RolloutResult::Done,
        error: None,
    };
    let kept = previous.and_then(|generation| {
        Some(KeptRelease {
            generation: Generation(generation),
            policy: policies.get(&Generation(generation)).map(Rc::clone)?,
            rolled_away: false,
        })
    });
    Releases {
        records: previous
            .into_iter()
            .filter(|previous| *previous != serving)
            .chain([serving])
            .map(record)
            .collect(),
        kept: kept.into_iter().collect(),
    }
}
