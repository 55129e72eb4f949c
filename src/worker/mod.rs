//! What a worker written in Rust needs, under a master or without one. The
//! [root of the library](crate#for-workers-written-in-rust) has a table of it.
//!
//! Each part works alone, and none brings a runtime. In reading order:
//!
//! - [`listeners`]: inherited listeners, or new ones;
//! - [`notify`], [`heartbeat`]: what the worker reports to its master;
//! - [`shutdown`]: the request to finish, from signals or the program;
//! - [`gate`]: counts the open connections, and waits until there are none; `sync` is what it
//!   synchronises with;
//! - [`graceful`]: a listener with a gate, which closes without losing a connection;
//! - [`server`]: a complete server, with a thread for each client;
//! - [`restart`]: starts the program again beside itself, where there is no master.

pub mod gate;
pub mod graceful;
pub mod heartbeat;
pub mod listeners;
pub mod notify;
pub mod restart;
pub mod server;
pub mod shutdown;
mod sync;
