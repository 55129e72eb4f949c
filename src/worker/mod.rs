//! What a worker written in Rust needs, under a master or without one; its map is at the [root of the library](crate#for-workers-written-in-rust).
//!
//! Each part can be used alone, and none brings a runtime along.

pub mod gate;
pub mod graceful;
pub mod heartbeat;
pub mod listeners;
pub mod notify;
pub mod restart;
pub mod server;
pub mod shutdown;
mod sync;
