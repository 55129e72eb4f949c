//! The only system calls. Everything here is small, returns what the system said, and decides nothing.

pub mod beat;
pub mod child;
pub mod clock;
pub mod cmsg;
pub mod control;
pub mod cpus;
pub mod daemon;
pub mod dial;
pub mod dirlock;
pub mod exec;
pub mod fd;
pub mod group;
pub mod guard;
pub mod holder;
pub mod image;
pub mod limits;
pub mod listener;
pub mod listener_options;
pub mod notify;
pub mod pidfile;
pub mod poll;
pub mod proc;
pub mod program;
pub mod queue;
pub mod random;
pub mod relay;
pub mod signals;
pub mod sink;
pub mod spawn;
pub mod successor;
#[cfg(test)]
pub(crate) mod testing;
pub mod unix_path;
mod unwind;
pub mod users;
pub mod wait;
