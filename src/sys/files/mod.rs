//! Files that name a service.

pub mod dirlock;
pub mod pidfile;
