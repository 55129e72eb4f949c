//! The examples for service managers and containers run under the real ones: started, stopped,
//! reloaded, restarted as each manager does it, with no process left.

mod container;
mod kubernetes;
mod place;
mod runit;
mod s6;
mod supervisor;
