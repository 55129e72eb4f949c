//! What the workers of a generation are started from, resolved once, when the generation begins.
//!
//! The real working directory, the program's real directory (its last component as given), the
//! environment, the listeners. A crash's replacement and a rollback use the pin and nothing else,
//! so a switched `current` symlink acts at the next rollout and never before.
//!
//! - [`Recipe`]: what the operator wrote, unresolved.
//! - [`Pin`]: one generation's resolved facts.
//! - `Pins`, in `pins`: the settings and all pins that can still be started from.
//! - [`Settings`]: all that the operator asked for, of which the recipe and the policy are parts;
//!   in `settings`.
//! - `environment`: the variables of the workers.
//! - [`PinnedListeners`]: the listeners of a pin, open or closed; in `listeners`.
//! - `change`: a change of the listeners, and its end.
//! - `release`: which release a pin belongs to.
//! - `handover`: pins from one image of the master to the next.
//!
//! The way of one reload: `Pins::resolve` applies the reload's changes to the recipe, a [`Pin`]
//! comes out, `Pins::insert` keeps it, workers are spawned from its `launch`, and `Pins::forget`
//! drops it when the model says that the generation is over.

mod change;
mod environment;
mod handover;
mod listeners;
mod pins;
mod release;
mod settings;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{Error, Exit, Result};
use crate::model::ids::Generation;
use crate::model::policy::Policy;
use crate::sys::listener::Listener;
use crate::sys::notify;
use crate::sys::process::spawn::{Launch, Leads};
use crate::sys::process::{proc_info, program};
use crate::wire::changes::{Changes, Text};
use crate::wire::environment::Environment;
use crate::wire::exports::{Exports, Protocol};

use environment::{beat_fd, changed, common_env, own_pid_in};

pub use environment::is_ours;
pub(super) use environment::own_env;
pub use listeners::PinnedListeners;
pub(super) use pins::Pins;
pub use settings::Settings;

/// What the operator wrote, unresolved: it is resolved anew for each generation.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The worker command.
    pub command: Vec<OsString>,
    /// The directory in which the master was started, as `$PWD` named it (U17).
    pub start_dir: PathBuf,
    /// `--chdir`, relative to `start_dir`.
    pub chdir: Option<PathBuf>,
    /// The master's own environment without the protocols' variables; empty with `--clear-env`.
    pub environment: Environment,
    /// `--env`.
    pub set: Environment,
    /// The numbers of the descriptors that workers get as they are (`--keep-fd`).
    pub keep: Vec<i32>,
    /// Where a program without a slash is looked up if the workers' environment has no PATH.
    pub path: Option<OsString>,
    /// The protocols in which workers are told of the listeners.
    pub exports: Exports,
    /// `--notify-path`, relative to `start_dir`.
    pub notify_dir: Option<PathBuf>,
    /// RLIMIT_NOFILE as the master inherited it, soft and hard; None: workers get the present one.
    pub nofile: Option<(u64, u64)>,
}

/// One generation's resolved facts.
#[derive(Debug)]
pub struct Pin {
    #[expect(missing_docs, reason = "the name says it")]
    pub generation: Generation,
    /// The settings of its workers.
    pub policy: Rc<Policy>,
    /// The working directory, resolved.
    pub cwd: PathBuf,
    /// The program: its directory resolved, its last component as given.
    pub program: PathBuf,
    /// The command as given.
    pub command: Vec<OsString>,
    /// The environment without the master's own variables.
    pub environment: Environment,
    /// The listeners that its workers inherit.
    pub listeners: PinnedListeners,
    /// The protocols in which its workers are told of the listeners, besides systemd's.
    pub exports: Vec<Protocol>,
    /// The number of the heartbeat page in its workers.
    pub beat_fd: i32,
    /// Where its workers' notification sockets are made; None: they are abstract.
    pub notify_dir: Option<PathBuf>,
    /// What every spawn gives to the kernel, rendered once.
    pub launch: Launch,
    /// What reloads have changed of the recipe; the other fields include it.
    pub changes: Changes,
    /// The program's inode when it was resolved; None: it could not be read.
    pub inode: Option<u64>,
}

impl Recipe {
    /// The environment of workers before any reload has changed it.
    pub(super) fn workers_environment(&self) -> Environment {
        self.environment.overruled_by(&self.set)
    }

    /// Resolves the recipe with these changes, as the file system stands now.
    ///
    /// # Errors
    /// Exit 1: a directory or program is missing or may not be executed, or a text holds a byte
    /// that no exec can carry. The message names the path.
    pub fn pin(
        &self,
        generation: Generation,
        policy: Rc<Policy>,
        listeners: Rc<Vec<Listener>>,
        changes: Changes,
    ) -> Result<Pin> {
        let moved = changes.chdir.as_ref().map(|Text(dir)| Path::new(dir));
        let wanted = match moved.or(self.chdir.as_deref()) {
            Some(dir) => self.start_dir.join(dir),
            None => self.start_dir.clone(),
        };
        let cwd = program::real_dir(&wanted).map_err(|error| {
            failed(format!("working directory {}", wanted.display()), error)
                .hint("make it, or name another one with --chdir")
        })?;
        let environment = changed(self.workers_environment(), &changes)?;
        let command = match &changes.command {
            Some(command) => command.iter().map(|Text(arg)| arg.clone()).collect(),
            None => self.command.clone(),
        };
        let name = command
            .first()
            .ok_or_else(|| Error::usage("no worker COMMAND"))?;
        let path = environment.value("PATH").or(self.path.as_deref());
        let program = program::find(name, &cwd, path).map_err(|error| {
            failed(
                format!("worker program {}", Path::new(name).display()),
                error,
            )
        })?;
        let notify_dir = self.notify_dir.as_ref().map(|dir| self.start_dir.join(dir));
        if let Some(dir) = &notify_dir {
            notify::check_directory(dir).map_err(|error| unusable(dir, error))?;
        }
        let beat_fd = beat_fd(listeners.len(), policy.ready, &self.keep);
        Pin::new(
            generation,
            policy,
            cwd,
            program,
            command,
            environment,
            listeners,
            self.exports.protocols(),
            beat_fd,
            notify_dir,
            self.nofile,
            changes,
        )
    }
}

impl Pin {
    /// A pin of facts that are resolved already.
    ///
    /// # Errors
    /// A byte that no exec can carry, a listener whose address a protocol cannot express.
    #[expect(clippy::too_many_arguments, reason = "they are the fields")]
    pub fn new(
        generation: Generation,
        policy: Rc<Policy>,
        cwd: PathBuf,
        program: PathBuf,
        command: Vec<OsString>,
        environment: Environment,
        listeners: Rc<Vec<Listener>>,
        exports: Vec<Protocol>,
        beat_fd: i32,
        notify_dir: Option<PathBuf>,
        nofile: Option<(u64, u64)>,
        changes: Changes,
    ) -> Result<Pin> {
        let env = common_env(
            generation,
            &policy,
            &environment,
            &listeners,
            &exports,
            beat_fd,
        )?;
        let launch = Launch {
            program: c_string(program.as_os_str())?,
            argv: command
                .iter()
                .map(|arg| c_string(arg))
                .collect::<Result<_>>()?,
            env,
            own_pid_in: own_pid_in(&policy, &listeners),
            cwd: Some(c_string(cwd.as_os_str())?),
            leads: Leads::Session,
            death_signal: Some(policy.graceful_signal),
            nofile,
        };
        let inode = proc_info::program_inode(&program);
        Ok(Pin {
            generation,
            policy,
            cwd,
            program,
            command,
            environment,
            listeners: PinnedListeners::Open(listeners),
            exports,
            beat_fd,
            notify_dir,
            launch,
            changes,
            inode,
        })
    }

    /// The same facts under another number, with these listeners, which are its own or copies of
    /// them, or those of a change: a rollback starts from it, and a rehearsal. The program is the
    /// file that its path names by then, as for a worker that is replaced after a crash.
    ///
    /// # Errors
    /// Exit 1: the program or the directory is gone.
    pub fn renumbered(
        &self,
        generation: Generation,
        listeners: Rc<Vec<Listener>>,
        beat_fd: i32,
    ) -> Result<Pin> {
        program::check(&self.program)
            .map_err(|error| failed(format!("worker program {}", self.program.display()), error))?;
        program::real_dir(&self.cwd)
            .map_err(|error| failed(format!("working directory {}", self.cwd.display()), error))?;
        let env = common_env(
            generation,
            &self.policy,
            &self.environment,
            &listeners,
            &self.exports,
            beat_fd,
        )?;
        Ok(Pin {
            generation,
            policy: Rc::clone(&self.policy),
            cwd: self.cwd.clone(),
            program: self.program.clone(),
            command: self.command.clone(),
            environment: self.environment.clone(),
            exports: self.exports.clone(),
            beat_fd,
            notify_dir: self.notify_dir.clone(),
            launch: Launch {
                env,
                own_pid_in: own_pid_in(&self.policy, &listeners),
                ..self.launch.clone()
            },
            listeners: PinnedListeners::Open(listeners),
            changes: self.changes.clone(),
            inode: proc_info::program_inode(&self.program),
        })
    }

    /// Makes what its workers need and a check of it does not make: the directory of their
    /// notification sockets.
    ///
    /// # Errors
    /// Exit 1: that directory cannot be used.
    pub(super) fn prepare(&self) -> Result<()> {
        let Some(dir) = &self.notify_dir else {
            return Ok(());
        };
        notify::prepare_directory(dir).map_err(|error| unusable(dir, error))
    }

    /// The generation's `PF_RELEASE`.
    pub fn release(&self) -> Option<String> {
        let name = self.environment.value("PF_RELEASE")?;
        Some(name.to_string_lossy().into_owned())
    }
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| failed(format!("'{}'", text.to_string_lossy()), "holds a NUL byte"))
}

fn unusable(dir: &Path, error: std::io::Error) -> Error {
    failed(format!("cannot use --notify-path {}", dir.display()), error)
}

fn failed(what: String, why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Failed, what, why)
}
