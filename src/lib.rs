//! `prefork`: the library of pf-tools.

pub mod client;
pub mod cmd;
pub mod driver;
pub mod error;
pub mod log;
pub mod model;
pub mod sys;
pub mod ui;
pub mod wire;
