//! Files that belong to a service: its pid file, and the lock for replacing a socket's path.
//!
//! - [`dirlock`]: a lock on a directory, so that checking a path and replacing it is one step.
//! - [`pidfile`]: the pid file, whose lock says which process is the master.
//! - [`watch`]: tells that a path may name another file than before.
//!
//! A socket's path is replaced by the rooms `control` and `listener` under
//! [`dirlock::lock_dir_of`]. The pid file needs no such lock: its own fcntl(2) lock decides.

pub mod dirlock;
pub mod pidfile;
pub mod watch;
