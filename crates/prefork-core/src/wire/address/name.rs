//! A listener's name.

use std::fmt;
use std::str::FromStr;

use crate::wire::text::shown;

/// The longest name in `LISTEN_FDNAMES`: systemd's limit, sd_listen_fds(3).
const MAX: usize = 255;

/// A listener's name: `[A-Za-z0-9_.-]{1,255}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` can be given to a listener as its name.
    pub fn is_valid(text: &str) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        (1..=MAX).contains(&text.len()) && text.chars().all(fits)
    }

    /// The name that came with an inherited listener.
    ///
    /// Service managers also use characters that `pf-listen` does not accept in a name: systemd's
    /// default is the unit's name, as in `web@1.socket`. Such a name is passed on as it is. `None`:
    /// the text means that there is no name (`unknown`, or empty), or it cannot stand in a list or
    /// on a line (a colon, a space, a control character).
    pub fn inherited(text: &str) -> Option<Name> {
        let fits = (1..=MAX).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_graphic() && c != ':');
        (fits && text != super::super::listen_env::NAMELESS).then(|| Name(text.to_owned()))
    }

    /// The name of copy `index` of a listener with `copies=N`, as in `NAME.0`.
    pub fn copy(&self, index: u32) -> Name {
        Name(format!("{self}.{index}"))
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if Name::is_valid(text) {
            return Ok(Name(text.to_owned()));
        }
        let text = shown(text);
        Err(format!(
            "'{text}' is not a listener's name (letters, digits, '_', '.' and '-', at most {MAX})"
        ))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
