//! The heartbeat page (U23), seen from both sides.
//!
//! - [`mod@file`]: [`file::HeartbeatFile`], the side of the master. It makes the sealed memfd and
//!   compares its times, mode and counters with those of the last check. It never maps the file: if
//!   a worker cut a file that could not be sealed, an access would end the master with SIGBUS.
//! - [`page`]: [`page::map`], the side of a worker. It maps the page, so that a beat is one store.
//!
//! The way of one beat: a worker changes the file (touch, fchmod(2), or a store into the page); the
//! next [`file::HeartbeatFile::check_for_beat`] of the master sees another state and returns true.
//! The layout of the page is in `wire::heartbeat`.

pub mod file;
pub mod page;
