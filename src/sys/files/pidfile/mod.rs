//! The pid file (U22). Its lock decides which process is the master; the number in it is for
//! people.
//!
//! The lock is an fcntl(2) lock. It survives exec as long as the descriptor stays open, a child
//! does not inherit it, and F_GETLK returns the pid of its holder. But it belongs to the process:
//! closing any descriptor of the file releases it. So a master must never open its own pid file
//! again.
//!
//! In reading order:
//!
//! | file | what is in it |
//! | --- | --- |
//! | `lock` | take the lock, find its holder, check that the path still names the file |
//! | `acquire` | [`PidFile`]: create the file or replace a stale one |
//! | `unnamed` | a locked file with our pid that has no name yet |
//! | `rename` | another name for our file while two masters run; [`remove_stale`] |
//! | `owner` | [`owner()`], [`open_owner`]: the process that has the lock |
//!
//! The way of one start: [`PidFile::acquire`] makes a file without a name, locks it and writes the
//! pid into it. If the path is free, it links the file there; the link fails if another process was
//! faster. If a file is there, it takes that file's lock, checks that the path still names it,
//! removes it and links its own there. A process that waited for the old lock then finds another
//! file, or none. A process that is killed at any step leaves no other name.

mod acquire;
mod lock;
mod owner;
mod rename;
mod unnamed;

pub use acquire::PidFile;
pub use owner::{Owner, open_owner, owner};
pub use rename::remove_stale;

#[cfg(test)]
pub(crate) mod tests;
