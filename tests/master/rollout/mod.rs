//! From one generation of workers to the next: done, rolled back, or refused.

mod bad_release;
mod changes;
mod collisions;
mod drain;
mod probation;
mod releases;
mod steps;
