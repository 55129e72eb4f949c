//! Bytes that are text as a rule: arguments, paths, variables. JSON has text alone, so what is none is written as numbers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: a string where they are UTF-8, an array of numbers where not. Nothing is lost either way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => to.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Numbers(Vec<u8>),
        }
        Ok(Bytes(match Form::deserialize(from)? {
            Form::Text(text) => text.into_bytes(),
            Form::Numbers(numbers) => numbers,
        }))
    }
}

impl Bytes {
    /// As the system takes them.
    pub fn into_os(self) -> OsString {
        OsString::from_vec(self.0)
    }

    /// As a path.
    pub fn into_path(self) -> PathBuf {
        self.into_os().into()
    }
}

impl From<&OsStr> for Bytes {
    fn from(text: &OsStr) -> Self {
        Bytes(text.as_bytes().to_vec())
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        path.as_os_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_they_come_back() {
        for (bytes, written) in [
            (&b"plain"[..], "\"plain\""),
            (b"", "\"\""),
            ("ü\n\0".as_bytes(), "\"ü\\n\\u0000\""),
            (b"\xff\x00a", "[255,0,97]"),
        ] {
            let bytes = Bytes(bytes.to_vec());
            let text = serde_json::to_string(&bytes).expect("written");
            assert_eq!(text, written);
            assert_eq!(serde_json::from_str::<Bytes>(&text).expect("read"), bytes);
        }
    }
}
