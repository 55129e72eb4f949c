//! Arguments, paths and variables in JSON: bytes that are nearly always text. JSON strings hold
//! text only, so bytes that are not UTF-8 are written as an array of numbers.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes that are nearly always UTF-8: a JSON string if they are, else an array of the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "JsonForm", into = "JsonForm")]
pub struct Text(pub OsString);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum JsonForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<JsonForm> for Text {
    fn from(form: JsonForm) -> Self {
        match form {
            JsonForm::Text(text) => Text(text.into()),
            JsonForm::Bytes(bytes) => Text(OsString::from_vec(bytes)),
        }
    }
}

impl From<Text> for JsonForm {
    fn from(Text(text): Text) -> Self {
        text.into_string()
            .map_or_else(|text| JsonForm::Bytes(text.into_vec()), JsonForm::Text)
    }
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        Text(text.to_owned())
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.to_string_lossy().fmt(f)
    }
}

impl From<&Path> for Text {
    fn from(path: &Path) -> Self {
        path.as_os_str().into()
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Text(OsString::from_vec(bytes))
    }
}

impl Text {
    /// Returns the bytes as a path.
    pub fn into_path(self) -> PathBuf {
        self.0.into()
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

/// A text that stands in a message, or an error of a parser, which may repeat its input: with its
/// control characters escaped, so that the message stays one line and does nothing to a terminal.
pub fn shown(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// What begins in the first `longest` bytes of a text.
pub(super) fn cut(text: &str, longest: usize) -> String {
    let fits = text.char_indices().take_while(|(at, _)| *at < longest);
    fits.map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(shown("ü 'x\\"), "ü 'x\\");
        assert_eq!(shown("a\n\u{1b}[2J\u{85}"), "a\\n\\u{1b}[2J\\u{85}");
    }

    #[test]
    fn any_bytes_round_trip() {
        for (bytes, written) in [
            (&b"plain"[..], "\"plain\""),
            (b"", "\"\""),
            ("ü\n\0".as_bytes(), "\"ü\\n\\u0000\""),
            (b"\xff\x00a", "[255,0,97]"),
        ] {
            let bytes = Text(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&bytes).expect("written");
            assert_eq!(text, written);
            assert_eq!(serde_json::from_str::<Text>(&text).expect("read"), bytes);
        }
    }
}
