//! The blocking control client: finds the master behind a target, sends it one request and reads
//! its answers, everything before a deadline.
//!
//! In reading order:
//!
//! - `target`: what the user names, a pid file or a control socket ([`Target`]), and the running
//!   master behind it ([`Reach`]);
//! - `master`: the process of that master, held by a pidfd ([`Master`]): signal, kill, wait;
//! - `connection`: the control connection ([`ControlConnection`]): one request out, lines in
//!   ([`AnswerLine`]);
//! - `deadline` and `failure`: the time that is left, and the errors that several files report.
//!
//! One request: [`Target::reach`] finds out whether the target is a pid file or a socket, looks up
//! the owner of the pid file's lock, and connects. [`ControlConnection::send`] writes the request.
//! [`ControlConnection::next_line`] returns progress lines until the reply comes; `None` means that
//! the master closed the connection (`Reach::unanswered`).

mod connection;
mod deadline;
pub(crate) mod failure;
mod master;
mod target;

pub use connection::{AnswerLine, ControlConnection, Followed, Received};
pub use deadline::{ANSWER_WITHIN, Idle};
pub use master::Master;
pub use target::{POLL_INTERVAL, Reach, Target};
