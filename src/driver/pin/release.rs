//! Which release a pin belongs to, and whether the paths that were given name it still.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Pin, Pins, Recipe};
use crate::model::releases::listener_change::ListenerChange;
use crate::model::releases::{PinnedRelease, ReleaseLabel};
use crate::wire::changes::Text;
use crate::wire::environment::Variable;

/// What a shell sets by itself: it says where the shell was and how deep.
const SHELL_OWN: [&str; 4] = ["PWD", "OLDPWD", "SHLVL", "_"];

/// Whether a variable is a fact of the release. A shell that reads `--reexec` sets some by itself
/// and drops those that it cannot name (POSIX, Shell Command Language, 2.9.1): an upgrade of the
/// same files would be another release, and a rollback would go from a release to itself.
fn is_fact(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_name = name.iter().all(is_word) && !name.first().is_some_and(u8::is_ascii_digit);
    is_name && !SHELL_OWN.iter().any(|own| own.as_bytes() == name)
}

impl Pin {
    /// What it was pinned from, in words.
    pub(super) fn label(&self) -> ReleaseLabel {
        let words = self.command.iter();
        ReleaseLabel {
            directory: self.cwd.display().to_string(),
            name: self.release(),
            command: words.map(|word| word.to_string_lossy().into()).collect(),
        }
    }

    /// Whether it holds the same facts as another. The program's inode is none of them: a file that
    /// was replaced under its name cannot be gone back to.
    fn is_same_release(&self, other: &Pin) -> bool {
        fn facts(pin: &Pin) -> Vec<Variable<'_>> {
            let is_set = |name: &OsStr| {
                name.to_str()
                    .is_some_and(|it| pin.changes.set.contains_key(it))
            };
            let facts = pin.environment.iter();
            let facts = facts.filter(|it| is_fact(it.name()) || is_set(it.name()));
            let mut sorted: Vec<_> = facts.collect();
            sorted.sort_unstable();
            sorted
        }
        self.cwd == other.cwd
            && self.program == other.program
            && self.command == other.command
            && self.policy == other.policy
            && self.exports == other.exports
            && self.beat_fd == other.beat_fd
            && self.listeners.places() == other.listeners.places()
            && facts(self) == facts(other)
    }
}

impl Pins {
    /// The release of a new pin: that of the last other generation with the same facts.
    pub(in crate::driver) fn release_of(&self, pin: &Pin) -> PinnedRelease {
        let others = self.by_generation.values().rev();
        let same = others
            .filter(|other| other.generation != pin.generation)
            .find(|other| pin.is_same_release(other));
        PinnedRelease {
            label: pin.label(),
            same_as: same.map(|same| same.generation),
            listeners: ListenerChange::default(),
        }
    }

    /// What a reload would deploy now although it is not what serves, in words: a rollback moves no
    /// link.
    pub(in crate::driver) fn what_is_named_instead(
        &self,
        serving: &Pin,
        next: &Pin,
    ) -> Option<String> {
        let (given, named) = if next.cwd != serving.cwd {
            (self.recipe().directory(serving), &next.cwd)
        } else if next.program != serving.program {
            let name = serving.command.first().map(PathBuf::from);
            (name.unwrap_or_default(), &next.program)
        } else {
            return None;
        };
        let (given, named) = (given.display(), named.display());
        Some(format!(
            "{given} names {named}: the next reload or HUP deploys that"
        ))
    }
}

impl Recipe {
    /// The directory as it was given.
    fn directory(&self, pin: &Pin) -> PathBuf {
        let moved = pin.changes.chdir.as_ref().map(|Text(dir)| Path::new(dir));
        match moved.or(self.chdir.as_deref()) {
            Some(dir) => dir.to_owned(),
            None => self.start_dir.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_adds_and_drops_is_no_fact_of_a_release() {
        let facts = |names: [&str; 4]| names.map(|name| is_fact(OsStr::new(name)));
        assert_eq!(facts(["PATH", "_A1", "COLOUR", "a"]), [true; 4]);
        assert_eq!(facts(["PWD", "OLDPWD", "SHLVL", "_"]), [false; 4]);
        assert_eq!(facts(["a-b", "1A", "a.b", "A%"]), [false; 4]);
    }
}
