//! The model alone: transcripts, random lifetimes, every (state, event) pair. No process is started here.

mod beside;
mod lifetimes;
mod pairs;
mod render;
mod transcripts;
mod two_masters;
