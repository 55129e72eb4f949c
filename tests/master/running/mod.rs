//! A master at work: signals, the terminal, crashes, shortages, clients, the service manager above it.

mod crash;
mod einhorn_acks;
mod hardship;
mod held_terminal;
mod protocol;
mod service_manager;
mod signals;
mod terminal;
