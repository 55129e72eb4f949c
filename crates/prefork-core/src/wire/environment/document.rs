//! An environment in JSON: a list of pairs, each name once, in the order of the names. Of several
//! variables of one name the last counts, as for the exec of an image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Environment;
use super::block::Block;
use crate::wire::text::{Text, shown};

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs = self.iter().map(|it| (it.name(), it.value()));
        let by_name: BTreeMap<&OsStr, &OsStr> = pairs.collect();
        // Pair by pair, so that there is no copy of all of them.
        let pairs = by_name.into_iter();
        serializer.collect_seq(pairs.map(|(name, value)| (Text::from(name), Text::from(value))))
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Environment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Environment, A::Error> {
        let mut block = Block::default();
        while let Some((Text(name), Text(value))) = pairs.next_element()? {
            if !block.add(name.as_encoded_bytes(), value.as_encoded_bytes()) {
                let name = shown(name.to_string_lossy());
                return Err(A::Error::custom(format_args!("'{name}' is no variable")));
            }
        }
        Ok(block.finished().into())
    }
}
