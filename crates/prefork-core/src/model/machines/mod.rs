//! Small machines beside the supervisor. Each is a value that takes events and the time and says
//! what is to be done; none knows the supervisor.
//!
//! - [`acceptor`]: `pf-accept`: whether there is room for a connection, and when a handler has had
//!   its time. Run by `cmd/accept`.
//! - [`holder`]: `pf-listen --hold`: which signals are passed on, and when the command is started
//!   again. Run by `cmd/listen`.
//! - [`service_manager`]: what a service manager above the master is told, and when. Run by the
//!   driver after each turn.
//! - [`event_log`]: the last events of the service, and their numbers, also while two masters
//!   serve. Run by the driver.
//! - [`stories`]: what has happened to each slot, the last of it. Run by the driver.
//! - [`log_throttle`]: one line of a kind a second, and a count of those that were left out.

pub mod acceptor;
pub mod event_log;
pub mod holder;
pub mod log_throttle;
pub mod service_manager;
pub mod stories;
