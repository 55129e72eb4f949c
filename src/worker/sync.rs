//! What [`gate`](super::gate) synchronises with. A test replaces this module by loom's types, which
//! try every order of events.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
