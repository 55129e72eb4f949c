//! Signals: receiving, blocking, forwarding, and the calls that they interrupt.
//!
//! This room knows numbers, masks and handlers of this process, and no other process: the room
//! `process` is built on it, never the other way round. In reading order:
//!
//! - `numbers`: a [`Signal`](crate::model::signal::Signal) by name and by number.
//! - `mask`: [`block_all`] and [`restore`] around a fork or an exec.
//! - `disposition`: whether a signal is ignored.
//! - `handlers`: [`Signals`], the handlers of the master and of `pf-accept`.
//! - [`forward`]: the signals of `pf-listen --hold`, which passes all of them on to its child.
//! - [`shutdown`]: the request to finish, for workers written in Rust.
//! - [`farewell`]: what a terminal is told before a signal ends the process.
//! - [`interruptible`]: blocking calls that a signal or a deadline interrupts.
//!
//! The way of a TERM to the master: the handler that [`Signals::install`] has installed records the
//! signal and its sender and writes a byte to a socket pair. The driver's poll returns, as
//! [`Signals::fd`] is readable; [`Signals::pending`] returns `(Term, Process)`, and the driver
//! makes it an event of the model. The handler does nothing else, so it is safe at any time.
//!
//! Around each fork every signal is blocked: between the fork and the exec a child still has our
//! handlers, and one of them could swallow a signal that was meant for the child.

mod disposition;
pub mod farewell;
pub mod forward;
pub(super) mod handlers;
pub mod interruptible;
mod mask;
mod numbers;
pub mod shutdown;

pub use handlers::{HANDLED, Signals};
pub use mask::{Mask, block_all, restore, unblock_all};
pub use numbers::{from_number, number, send_to_self};
