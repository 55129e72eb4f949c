//! The only system calls. Everything here is small, returns what the system said, and decides nothing.

pub mod beat;
pub mod clock;
pub mod control;
pub mod cpus;
pub mod dial;
pub mod dirlock;
pub mod exec;
pub mod fd;
pub mod holder;
pub mod listener;
pub mod listener_options;
pub mod notify;
pub mod pidfile;
pub mod poll;
pub mod proc;
pub mod queue;
pub mod signals;
pub mod spawn;
pub mod unix_path;
pub mod users;
pub mod wait;
