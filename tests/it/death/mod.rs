//! Truth under death: what holds when the master, the guard, a worker or a resource dies, shown with real processes.

mod heartbeat;
mod killed;
mod pidfile;
mod support;
mod worker;
