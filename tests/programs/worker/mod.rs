//! The library for workers, from outside.

mod examples;
mod graceful;
mod http;
mod inherit;
mod orders;
mod restart;
mod server;
