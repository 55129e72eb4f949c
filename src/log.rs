//! The master's log.
