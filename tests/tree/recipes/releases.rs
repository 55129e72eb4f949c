//! Releases of a recipe's application: the one that the README shows, and broken ones made of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::common::support::copies::executable;
use crate::stage::named;

/// When a release fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be loaded.
    Loading,
    /// A second after it was ready.
    Soon,
    /// Under its first request.
    Request,
}

impl Fault {
    pub(super) const ALL: [Fault; 3] = [Fault::Loading, Fault::Soon, Fault::Request];

    /// What a release with this fault is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Fault::Loading => "loading",
            Fault::Soon => "soon",
            Fault::Request => "request",
        }
    }
}

/// What is changed to make a release fail, and what the master says of a worker's end then.
pub(super) struct Change {
    pub(super) what: What,
    pub(super) cause: &'static str,
}

pub(super) enum What {
    /// In this file, this text becomes that one.
    Text(&'static str, &'static str, &'static str),
    /// The server itself is another program.
    Program(&'static str, &'static str),
}

pub(super) const fn text(
    file: &'static str,
    from: &'static str,
    to: &'static str,
    cause: &'static str,
) -> Change {
    let what = What::Text(file, from, to);
    Change { what, cause }
}

pub(super) const fn program(
    name: &'static str,
    script: &'static str,
    cause: &'static str,
) -> Change {
    let what = What::Program(name, script);
    Change { what, cause }
}

/// Directories of releases, and the link `current` to one of them.
pub(super) struct Releases {
    work: PathBuf,
    port: String,
}

impl Releases {
    /// Where a release has programs of its own.
    pub(super) const PROGRAMS: &str = "current/bin";

    /// The README's files, each a link to the one of the current release.
    pub(super) fn new(work: &Path, port: &str) -> Releases {
        let releases = Releases {
            work: work.to_owned(),
            port: port.to_owned(),
        };
        releases.write("good", |_, text| text);
        releases.switch("good");
        for file in named("file").keys() {
            symlink(Path::new("current").join(file), work.join(file)).expect("a link");
        }
        releases
    }

    /// Adds a release that is broken. Its answers say so, if it gives any.
    pub(super) fn break_into(&self, name: &str, change: &Change) {
        let mut changed = 0;
        let dir = self.write(name, |file, text| match &change.what {
            What::Text(changed_file, from, to) if *changed_file == file => {
                changed += text.matches(from).count();
                text.replace(from, to).replace("hello", "broken")
            }
            _ => text.replace("hello", "broken"),
        });
        match &change.what {
            What::Text(file, from, _) => assert_eq!(changed, 1, "'{from}' in {file}"),
            What::Program(program, script) => executable(&dir.join("bin").join(program), script),
        }
    }

    /// Makes this release the current one, in one step.
    pub(super) fn switch(&self, name: &str) {
        let new = self.work.join("current.new");
        symlink(Path::new("releases").join(name), &new).expect("a link");
        fs::rename(new, self.work.join("current")).expect("renamed");
    }

    fn write(&self, name: &str, mut changed: impl FnMut(&str, String) -> String) -> PathBuf {
        let dir = self.work.join("releases").join(name);
        fs::create_dir_all(dir.join("bin")).expect("a directory");
        for (file, text) in named("file") {
            let text = changed(&file, text.replace("8080", &self.port));
            fs::write(dir.join(file), text).expect("written");
        }
        dir
    }
}
