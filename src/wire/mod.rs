//! Pure codecs: bytes and strings to types and back. Every parser is total, every limit has a name.

pub mod address;
pub mod beat;
pub mod beside;
pub mod changes;
pub mod einhorn;
pub mod exports;
pub mod handover;
pub mod listen_env;
pub mod maps;
pub mod names;
pub mod notify;
pub mod preflight;
pub mod proto;
pub mod services;
pub mod size;
pub mod status;
pub mod text;
pub mod ucspi;
pub mod upward;
