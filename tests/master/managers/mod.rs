//! The examples for service managers and containers, run by the real ones: started, stopped, reloaded, restarted as each of them does it; and nothing
//! is left.

mod container;
mod kubernetes;
mod place;
mod runit;
mod s6;
mod supervisor;
