//! An operation's id as JSON has it: one word.

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::model::ids::{MasterId, OpId};

/// An operation in a document that one master leaves for another, or one image for the next. A
/// plain number is read too: versions before this wrote that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpWord(pub OpId);

impl From<OpId> for OpWord {
    fn from(op: OpId) -> OpWord {
        OpWord(op)
    }
}

impl From<OpWord> for OpId {
    fn from(OpWord(op): OpWord) -> OpId {
        op
    }
}

impl Serialize for OpWord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OpWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OpWord, D::Error> {
        let text = word(deserializer)?;
        text.parse()
            .map(OpWord)
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &"an operation"))
    }
}

/// The word of an operation of a master without an id of its own.
pub fn plain(number: u64) -> OpId {
    OpId {
        master: MasterId::default(),
        number,
    }
}

/// A word, or a number as a word: for clients an operation's id is opaque.
///
/// # Errors
/// It is neither.
pub fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Word;

    impl Visitor<'_> for Word {
        type Value = String;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an operation's id")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }

    deserializer.deserialize_any(Word)
}

/// As [`word()`], for a field that may be absent or null.
///
/// # Errors
/// It is there, and is neither a word nor a number.
pub fn optional_word<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Inner(#[serde(deserialize_with = "word")] String);

    let inner: Option<Inner> = Option::deserialize(deserializer)?;
    Ok(inner.map(|Inner(word)| word))
}
