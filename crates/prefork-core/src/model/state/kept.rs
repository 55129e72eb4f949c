//! How values of the model are written down, to be read again by the image that follows this one at an upgrade.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A word of the model's own. A name of its own, since the derived code takes a plain `&str` for borrowed text.
pub(crate) type Constant = &'static str;

/// Words of a closed set, which the model has as constants.
pub(crate) mod word {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    const KNOWN: [&str; 16] = [
        "start",
        "reload",
        "upgrade",
        "rollback",
        "scale",
        "stop",
        "pause",
        "resume",
        "restart-worker",
        "retire",
        "reopen",
        "signal",
        "running",
        "done",
        "rolled-back",
        "aborted",
    ];

    pub fn serialize<S: Serializer>(word: &&'static str, to: S) -> Result<S::Ok, S::Error> {
        word.serialize(to)
    }

    /// A word of a newer image is an operation like any other.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
        let word = String::deserialize(from)?;
        Ok(KNOWN
            .into_iter()
            .find(|known| *known == word)
            .unwrap_or("operation"))
    }
}

/// A map whose keys are no strings: pairs.
pub(crate) mod pairs {
    use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let pairs = Vec::<(K, V)>::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}
