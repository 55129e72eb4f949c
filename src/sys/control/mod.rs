//! The control socket (P1 to P4): a Unix stream socket at a path, and a line protocol over it.
//!
//! A client can neither hold up the loop nor fill the memory: see `connection`.
//!
//! In reading order:
//!
//! | file | what is in it |
//! | --- | --- |
//! | `socket` | [`ControlSocket`]: bind, accept, remove |
//! | `connection` | [`Conn`]: one client; [`Input`] and [`ReadBatch`]: what one read returned |
//! | [`descriptors`] | descriptors that travel with the lines, in both directions |
//! | `rename` | another path for our socket while two masters run; [`remove_dead`] |
//! | `handover` | socket and clients go from one image of the master to the next |
//! | [`token`] | the secret of `--control-token`, compared in constant time |
//! | [`connect`] | the client's side: connect(2) with a time limit, and the server's process |
//!
//! The way of one request: the socket is readable, and [`ControlSocket::accept`] makes a [`Conn`];
//! the connection is readable, and [`Conn::read`] returns complete lines; the caller answers with
//! [`Conn::send`], and calls [`Conn::flush`] now and whenever the connection is writable.

pub mod connect;
mod connection;
pub mod descriptors;
mod handover;
mod rename;
mod socket;
pub mod token;

pub use connection::{Conn, Input, ReadBatch};
pub use rename::remove_dead;
pub use socket::ControlSocket;

#[cfg(test)]
pub(crate) mod tests;
