//! `pf-accept`: as real processes, with real clients.

mod clients;
mod ends;
mod environment;
mod hostile;
mod idle;
mod refused;
mod serialize;
mod service;
mod shortage;
mod support;
mod times;
mod tokens;
