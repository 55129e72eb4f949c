//! The repository itself: its sources, generated pages, and what the README shows.

#[path = "../common/mod.rs"]
mod common;

mod completions;
mod contributing;
mod drift;
mod layering;
mod readme;
mod recipes;
mod rooms;
mod stage;
