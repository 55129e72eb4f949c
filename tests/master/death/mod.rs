//! What still holds after the master, the guard, a worker or a resource died, with real processes.

mod acting_worker;
mod causes;
mod clients;
mod deaf_guard;
mod faults;
mod heartbeat;
mod held;
mod killed;
mod left_behind;
mod listener_shut_down;
mod matrix;
mod oom;
mod pid1;
mod pidfile;
mod read_only_root;
mod shortages;
mod signal_storm;
mod spawning;
mod stops;
mod strange_kernels;
mod support;
