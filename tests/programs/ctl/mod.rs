//! `pf-ctl`, against a master that is played by the test.

mod deadlines;
mod display;
mod fake;
mod leaving;
mod processes;
mod requests;
