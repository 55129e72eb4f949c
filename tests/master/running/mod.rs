//! A running master: signals, the terminal, crashes, shortages, clients, its service manager, those
//! who own it, and what it tells of a slot.

mod control_token;
mod crash;
mod einhorn_acks;
mod hardship;
mod held_terminal;
mod lifeline;
mod lost_paths;
mod protocol;
mod queue;
mod service_manager;
mod signals;
mod terminal;
mod totals;
mod why;
