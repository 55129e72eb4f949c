//! Truth under death: what holds when the master, the guard, a worker or a resource dies, shown with real processes.

mod bare;
mod births;
mod clients;
mod faults;
mod heartbeat;
mod killed;
mod leaving;
pub(crate) mod pid1;
mod pidfile;
mod scarce;
mod spoiled;
mod storm;
pub(crate) mod support;
mod worker;
