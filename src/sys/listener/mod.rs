//! Listeners: bound sockets that are passed on by file descriptor.
//!
//! The callers are `pf-listen`, before it executes the next program, and `pf-master`, which keeps
//! the listeners open for its whole life. The room does not know which of them calls.
//!
//! In reading order:
//!
//! | file | what is in it |
//! | --- | --- |
//! | `bound_socket` | [`Listener`]: the descriptor, its name, its address, its backlog |
//! | `inherited` | [`inherit`]: the listeners that the environment names; [`check_given`] |
//! | `wanted` | addresses to wanted sockets: resolves hosts, counts copies |
//! | `assign` | which inherited listener meets which want |
//! | `arrange` | [`arrange()`]: keep, bind or close, until the listeners are those asked for |
//! | `bind_missing` | binds what is missing; [`Retry`] while an address is in use |
//! | `make_socket` | makes one socket: options, bind(2), listen(2) |
//! | `bind_error` | why bind(2) failed, and whether another try makes sense |
//! | [`options`] | the options of an address, and what the kernel made of them |
//! | [`unix_path`] | who may take a Unix path; mode and owner before the first client |
//! | [`address_owner`] | the process that holds an address, for the error message |
//! | `closed` | [`ClosedListener`]: what is known of a listener that is closed |
//! | `mend` | [`Mended`]: a listener that was shut down listens again |
//! | [`accept_queue`] | how many connections wait at a listener, and for how long |
//! | [`shared_accept`] | workers that share listeners: wait, then accept one connection |
//!
//! The way of one start: [`inherit`] takes over what the parent passed; [`arrange()`] resolves the
//! addresses (`wanted`), gives each inherited listener its role (`assign`), binds what is missing
//! (`bind_missing`, then `make_socket`, for a path through [`unix_path`]) and sets the options of
//! the inherited ones last.

pub mod accept_queue;
pub mod address_owner;
mod arrange;
mod assign;
mod bind_error;
mod bind_missing;
mod bound_socket;
mod closed;
mod inherited;
mod make_socket;
mod mend;
pub mod options;
pub mod shared_accept;
pub mod unix_path;
mod wanted;

pub use crate::wire::address::Bound;
pub use arrange::{arrange, bind, check};
pub use bind_missing::Retry;
pub use bound_socket::Listener;
pub use closed::ClosedListener;
pub use inherited::{Inherited, check_given, inherit, inherit_listen_fds};
pub use mend::Mended;
pub use wanted::is_at;
