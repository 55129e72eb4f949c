//! What [`gate`](super::gate) synchronises with. A test puts another module in this one's place, which tries every order of events.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
