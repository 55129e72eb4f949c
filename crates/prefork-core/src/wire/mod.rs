//! Pure codecs: bytes and strings to types and back. Every parser is total, every limit has a name.

pub mod address;
pub mod changes;
pub mod control;
pub mod einhorn;
pub mod exports;
pub mod handover;
pub mod heartbeat;
pub mod listen_env;
pub mod maps;
pub mod names;
pub mod notify;
pub mod peer;
pub mod preflight;
pub mod service_manager;
pub mod services;
pub mod size;
pub mod status;
pub mod text;
pub mod ucspi;
