//! What the machine and the environment are like.

pub mod clock;
pub mod cpus;
pub mod environment;
pub mod limits;
pub mod random;
pub mod users;
