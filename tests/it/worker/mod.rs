//! The library for workers, from outside.

mod gate;
