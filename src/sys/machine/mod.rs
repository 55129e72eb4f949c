//! What this process finds on its machine: time, CPUs, users, limits, memory, randomness,
//! environment.
//!
//! Each file is one small door to the kernel and, but for [`environment`] and [`cpus`], imports no
//! other one:
//!
//! - [`clock`]: the monotonic clock of all deadlines, the wall clock for people, a sleep.
//! - [`cpus`]: how many CPUs we may use, the default of `-n`.
//! - [`cgroup`]: where a process's cgroup is, and how often it ran out of memory.
//! - [`users`]: users and groups by name or number.
//! - [`limits`]: RLIMIT_NOFILE, raised for the master and restored for its workers.
//! - [`memory`]: what the C library keeps of the memory that was freed.
//! - [`random`]: names that cannot be guessed.
//! - [`environment`]: our own environment, and removing variables from it while there is one
//!   thread.

pub mod cgroup;
pub mod clock;
pub mod cpus;
pub mod environment;
pub mod limits;
pub mod memory;
pub mod random;
pub mod users;
