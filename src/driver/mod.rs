//! The loop of `pf-master`: waits, turns what happened into events, lets the model decide, and
//! performs the actions that come out.
//!
//! One thread around one poll(2) over the signals, the control connections, and a nested epoll of
//! what grows with the workers. One turn, in the order that makes races harmless (`turn` says why):
//!
//! 1. the other master's messages and its end,
//! 2. which workers have ended, without reaping them,
//! 3. what workers have sent,
//! 4. those ends: a worker's last messages, then its exit; orphans; the guard,
//! 5. signals to the master, its lifeline, control requests, new control clients,
//! 6. the model's deadline, replies, and last the answer of a successor that is checked.
//!
//! The rooms, from the bottom up; each imports only those above it in this list:
//!
//! - [`pin`]: what a generation's workers are started from, resolved once.
//! - `process`: the processes behind the model's worker ids, with their descriptors.
//! - `clients`: control connections, and which request waits for which operation.
//! - `state`: the struct `Driver`, and the other parts that it owns.
//! - [`upgrade`]: another image of the master in place of this one.
//! - [`fork`]: another master beside this one.
//! - the files here: `start` makes a driver; `turn` is the loop; `perform` turns actions into
//!   system calls; `requests` and `client_input` turn control lines into events; `plan` tells what
//!   a rollout would change; `events` numbers what happened, `stories` keeps it for each slot;
//!   `leftovers` finds what workers left behind; `listeners` adds and removes listeners, and gives
//!   them away; `status` is the status document; `ack_socket` opens einhorn's socket.
//!
//! The way of one event: a method of `turn` makes it and calls `feed` (in `perform`), which hands
//! it to the model and performs the actions; facts that come out of an action (a fork failed:
//! EAGAIN) go back to the model as events of the same turn.

mod ack_socket;
mod client_input;
mod clients;
mod events;
mod leftovers;
mod listeners;
mod perform;
mod plan;
mod process;
mod requests;
mod start;
mod state;
mod status;
mod stories;
mod turn;

pub mod fork;
pub mod pin;
pub mod upgrade;

pub use start::{Setup, run};
pub use state::{Configured, End, ServiceManager};
