//! Changes that `reload` makes to the workers' command, directory and environment.
//!
//! They stand in a `reload` request, in the status document, and in the state that is handed over
//! at an upgrade.
//!
//! Names of variables are text; values, directories and arguments may be any bytes: [`Text`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

pub use super::text::Text;
use super::text::shown;

/// Changes to what the master was started with. They hold from the generation of that reload on,
/// until a later reload or a rollback undoes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Changes {
    /// Variables that are set in the workers' environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Text>,
    /// Variables that are removed, wherever they came from.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unset: BTreeSet<String>,
    /// The workers' directory in place of `--chdir`, relative to the directory in which the master
    /// was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chdir: Option<Text>,
    /// The worker command in place of the one on the master's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Text>>,
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// These changes followed by `later` ones, as one: where both change the same variable, the
    /// directory or the command, `later` wins.
    #[must_use]
    pub fn followed_by(&self, later: &Changes) -> Changes {
        let mut both = self.clone();
        for name in &later.unset {
            both.set.remove(name);
            both.unset.insert(name.clone());
        }
        for (name, value) in &later.set {
            both.unset.remove(name);
            both.set.insert(name.clone(), value.clone());
        }
        both.chdir = later.chdir.clone().or(both.chdir);
        both.command = later.command.clone().or(both.command);
        both
    }

    /// Checks whether the changes make sense. `is_ours`: whether a variable is the master's own.
    ///
    /// # Errors
    /// One line: a name that no variable can have, a variable of the master's own, a variable that
    /// is both set and unset, a NUL byte, an empty directory or command.
    pub fn check(&self, is_ours: impl Fn(&OsStr) -> bool) -> Result<(), String> {
        for name in self.set.keys().chain(&self.unset) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!(
                    "'{}' cannot be the name of a variable",
                    shown(name)
                ));
            }
            if is_ours(OsStr::new(name)) {
                return Err(format!("variable {} is the master's own", shown(name)));
            }
        }
        if let Some(name) = self.unset.iter().find(|name| self.set.contains_key(*name)) {
            return Err(format!("variable {} is both set and unset", shown(name)));
        }
        let command = self.command.iter().flatten();
        let texts = self.set.values().chain(&self.chdir).chain(command);
        for Text(text) in texts {
            if text.as_bytes().contains(&0) {
                let text = shown(text.to_string_lossy());
                return Err(format!("'{text}' holds a NUL byte"));
            }
        }
        if self.chdir.as_ref().is_some_and(|dir| dir.0.is_empty()) {
            return Err("the directory is empty".to_owned());
        }
        let program = self.command.as_ref().map(|command| command.first());
        match program {
            Some(program) if program.is_none_or(|program| program.0.is_empty()) => {
                Err("the command is empty".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(json: &str) -> Changes {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn bytes_that_are_not_text_round_trip() {
        let raw = OsStr::from_bytes(b"/srv/\xff");
        let odd = Changes {
            set: BTreeMap::from([("K".to_owned(), raw.into())]),
            chdir: Some(raw.into()),
            command: Some(vec![OsStr::new("./app").into(), raw.into()]),
            ..Changes::default()
        };
        let json = serde_json::to_string(&odd).expect("json");
        assert!(json.contains(r#"["./app",[47,115,114,118,47,255]]"#));
        assert_eq!(changes(&json), odd);
        assert_eq!(
            serde_json::to_string(&Changes::default()).expect("json"),
            "{}"
        );
    }

    #[test]
    fn later_changes_win() {
        let first = changes(r#"{"set":{"A":"1","B":"1"},"unset":["C"],"chdir":"/one"}"#);
        let later = changes(r#"{"set":{"C":"2"},"unset":["A","D"],"command":["./two"]}"#);
        let both = changes(
            r#"{"set":{"B":"1","C":"2"},"unset":["A","D"],"chdir":"/one","command":["./two"]}"#,
        );
        assert_eq!(first.followed_by(&later), both);
        assert_eq!(both.followed_by(&Changes::default()), both);
        assert!(!both.is_empty());
    }

    #[test]
    fn senseless_changes_are_refused() {
        let ours = |name: &OsStr| name == "PF_WORKER";
        assert_eq!(
            changes(r#"{"set":{"A":""},"unset":["B"]}"#).check(ours),
            Ok(())
        );
        for wrong in [
            r#"{"set":{"":"1"}}"#,
            r#"{"set":{"A=B":"1"}}"#,
            r#"{"set":{"A":"x\u0000y"}}"#,
            r#"{"set":{"PF_WORKER":"1"}}"#,
            r#"{"unset":["PF_WORKER"]}"#,
            r#"{"unset":["A="]}"#,
            r#"{"unset":["A\u0000"]}"#,
            r#"{"set":{"A":"1"},"unset":["A"]}"#,
            r#"{"chdir":""}"#,
            r#"{"chdir":[0]}"#,
            r#"{"command":[]}"#,
            r#"{"command":[""]}"#,
            r#"{"command":["a","\u0000"]}"#,
        ] {
            let why = changes(wrong).check(ours).expect_err(wrong);
            assert!(!why.contains(char::is_control), "{why:?}");
        }
    }
}
