//! Processes: starting, grouping, watching and ending them.

pub mod child;
pub mod daemon;
pub mod descendants;
pub mod exec;
pub mod fork_master;
pub mod group;
pub mod guard;
pub mod image;
pub mod parent;
pub mod procfs;
pub mod program;
pub mod resident;
pub mod spawn;
pub mod successor;
pub mod wait;
