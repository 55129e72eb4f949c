//! Turns the documents of a master into text for a terminal.
//!
//! - [`table`]: the status document, for `pf-status`;
//! - [`services`]: a line for each of several services, for the same;
//! - [`story`]: what has happened to a slot, for `pf-status --why`;
//! - [`screen`]: lines drawn in place, for `pf-status --watch`;
//! - [`metrics`]: the status document in the OpenMetrics format, for the same;
//! - [`listeners`]: the listeners, for `pf-ctl listeners`;
//! - [`history`]: the generations so far, for `pf-ctl history`;
//! - [`drill`]: what a drill has found, for `pf-ctl drill`;
//! - [`plan`]: what a rollout would change, for `pf-ctl reload --dry-run`;
//! - `columns`: how the columns of a table are laid out;
//! - [`lines`]: lines that are marked where something is not well, and cut where they are too wide;
//! - [`progress`]: what a waiting command shows on stderr;
//! - [`text`]: durations, sizes, command lines, and foreign strings made harmless.
//!
//! A foreign string (a name, an error, a worker's status text) always passes through [`text`], so
//! that it cannot act on the terminal.

mod columns;
pub mod drill;
pub mod history;
pub mod lines;
pub mod listeners;
pub mod metrics;
pub mod plan;
pub mod progress;
pub mod screen;
pub mod services;
pub mod story;
pub mod table;
pub mod text;
