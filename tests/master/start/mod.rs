//! The start of a master: its command line, what it gives its workers, and when they are ready.

mod command_line;
mod daemonize;
mod descriptors;
mod environment;
mod names;
mod readiness;
mod systemd_units;
mod workers;
