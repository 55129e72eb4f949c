//! A running master: signals, the terminal, crashes, shortages, clients, and its service manager.

mod control_token;
mod crash;
mod einhorn_acks;
mod hardship;
mod held_terminal;
mod lost_paths;
mod protocol;
mod queue;
mod service_manager;
mod signals;
mod terminal;
mod totals;
