//! The only system calls. Every function here is small, passes on the system's answer, and decides
//! nothing: decisions belong to the model, and the driver carries them out through these rooms.
//!
//! From the low rooms to the high ones:
//!
//! | room | holds |
//! | --- | --- |
//! | [`machine`] | clock, CPUs, users, limits, random names, the environment |
//! | [`io`] | descriptors, poll, non-blocking reads and writes, descriptors in messages, wake-ups |
//! | [`signal`] | receiving, blocking and forwarding signals; calls that a signal interrupts |
//! | [`files`] | the pid file, and a lock on a directory |
//! | [`process`] | starting, watching, signalling and ending processes |
//! | [`listener`] | binding, adopting and inspecting listeners; waiting in accept |
//! | [`heartbeat`] | the page that a worker writes and the master reads |
//! | [`notify`] | `sd_notify` datagrams, both directions |
//! | [`control`] | the control socket of a master |
//!
//! `unwind` links the unwinder statically, and `testing` runs a test in a process of its own.
//!
//! A room imports only rooms that stand above it in this table, the model's plain types (signals,
//! times) and the codecs of `wire`. `unsafe` stands in `sys` alone; each block says in a `SAFETY:`
//! comment why it is sound.

pub mod control;
pub mod files;
pub mod heartbeat;
pub mod io;
pub mod listener;
pub mod machine;
pub mod notify;
pub mod process;
pub mod signal;
#[cfg(test)]
pub(crate) mod testing;
mod unwind;
