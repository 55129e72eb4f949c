//! The blocking control client.
