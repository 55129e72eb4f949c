//! `pf-master` with real processes: the whole contract, seen from outside.

#[path = "../common/mod.rs"]
mod common;

mod death;
mod drill;
mod events;
mod fork;
mod listeners;
mod load;
mod loss;
mod managers;
mod plain_worker;
mod rollout;
mod running;
mod scripted_worker;
mod start;
mod upgrade;
