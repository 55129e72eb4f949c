//! What the tests of all three binaries share. No test stands here, so that each exists once.
//!
//! | module | holds |
//! | --- | --- |
//! | `support` | a service as a user starts it; free ports, copies of programs, skipped tests |
//! | `service` | a `pf-master` with workers that are shell scripts, and what `/proc` shows of it |
//! | `fault` | system calls that fail, by strace |
//! | `running` | a process that a test starts and reads line by line |
//! | `load` | clients that connect the whole time and account for every request |
//! | `terminal`, `namespace` | a terminal, and a pid namespace |
//! | `notify_manager` | a service manager that the test plays |

#![allow(dead_code, reason = "each binary compiles all of it and uses a part")]

pub(crate) mod fault;
pub(crate) mod load;
pub(crate) mod namespace;
pub(crate) mod notify_manager;
pub(crate) mod running;
pub(crate) mod service;
pub(crate) mod support;
pub(crate) mod terminal;
