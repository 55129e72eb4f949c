//! Processes: starting, watching, signalling and ending them.
//!
//! This room is built on `signal` (numbers, masks), `io` and `machine`. Each file answers one
//! question. In reading order:
//!
//! - How does a worker start? [`program`] finds its program, [`spawn`] forks and executes it.
//! - How did it end? [`wait`]: look at an ended child, then reap it.
//! - How is it signalled safely? [`group`]: its process group, by number or by pidfd; [`pidfd`]:
//!   any process.
//! - What stops the workers when the master is killed? [`guard`], and in its `escaped` what has
//!   left their groups.
//! - What do other processes do and use? [`proc_info`], [`descendants`].
//! - How does one image or master follow another? [`successor`] resolves the program, [`image`]
//!   executes it in place, [`fork_master`] executes it beside this one.
//! - How is the next program of a chain executed? [`exec`] in place, [`child`] as a child
//!   (`pf-listen --hold`).
//! - How does the service leave the shell? [`daemon`].
//! - What is this process itself part of? [`parent`], [`session`], [`resident`].
//!
//! The way of one worker: [`spawn::spawn`] returns its pid and a pipe. [`spawn::read_outcome`] says
//! whether its program runs. A [`group::Group`] of the pid signals it. SIGCHLD wakes the driver,
//! and [`group::Group::reap`] looks first (peek), opens a pidfd and reaps only then, because after
//! the reap the kernel may give the number to another process. The group is gone when
//! [`group::Group::is_empty`] says so; until then the pidfd reaches what the worker left behind.
//!
//! Imports run one way: `wait`, `session` and `proc_info` are low, `group` uses `wait` and
//! `session`, and `guard` uses all of them.

pub mod child;
pub mod daemon;
pub mod descendants;
pub mod exec;
pub mod fork_master;
pub mod group;
pub mod guard;
pub mod image;
pub mod parent;
pub mod pidfd;
pub mod proc_info;
pub mod program;
pub mod resident;
pub mod session;
pub mod spawn;
pub mod successor;
pub mod wait;
