//! The README's recipes for programs that no one here wrote, as workers.
//!
//! | module | holds |
//! | --- | --- |
//! | `load` | ten reloads and five upgrades under load, of which no client notices anything |
//! | `broken` | releases that cannot be loaded, die soon, or crash under a request |
//! | `kitchen` | a recipe as it is printed, and clients that watch its service |
//! | `releases` | how each of these releases is made of the one that the README shows |

mod broken;
mod kitchen;
mod load;
mod releases;

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stage::{path, programs};

/// Each of these tests needs the whole machine: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A release's own programs, ours, and Debian's before others of the same name.
fn search_path(release: &Path) -> OsString {
    let (ours, usual) = (programs(), ["/usr/bin", "/usr/sbin"].map(Path::new));
    path(&[&[release, &ours, &ours.join("examples")], &usual[..]].concat())
}
