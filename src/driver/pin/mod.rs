//! A generation, pinned: what its workers are started from, resolved once, when it begins.
//!
//! The real working directory, the program's real directory (its last component as given), the environment. A crash's replacement and a
//! rollback use the pin and nothing else, so a switched `current` symlink acts at the next rollout and never before.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{Error, Exit, Result};
use crate::model::event::Generation;
use crate::model::policy::{Policy, Readiness};
use crate::sys::listener::{Bound, Listener};
use crate::sys::process::spawn::{Launch, Leads};
use crate::sys::process::{procfs, program};
use crate::wire::changes::{Changes, Text};
use crate::wire::exports::{self, Exports, Protocol};
use crate::wire::handover::{CHECK_FD, FAILED, STATE_FD};
use crate::wire::listen_env::{self, FIRST_FD};
use crate::wire::peer::LINK_FD;

/// An environment: names and values, a name once.
pub type Environment = Vec<(OsString, OsString)>;

/// What the operator wrote, unresolved: read anew for each generation.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The worker command.
    pub command: Vec<OsString>,
    /// Where the master was started, as `$PWD` named it (U17).
    pub start_dir: PathBuf,
    /// `--chdir`, relative to that.
    pub chdir: Option<PathBuf>,
    /// The master's own environment without the protocols' variables; empty with `--clear-env`.
    pub environment: Environment,
    /// `--env`.
    pub set: Environment,
    /// The numbers of the descriptors that workers get as they are (`--keep-fd`).
    pub keep: Vec<i32>,
    /// Where programs without a slash are looked for if the workers' environment has no PATH.
    pub path: Option<OsString>,
    /// In which protocols workers are told of the listeners.
    pub exports: Exports,
    /// RLIMIT_NOFILE as the master was given it, soft and hard; None: as it is.
    pub nofile: Option<(u64, u64)>,
}

/// One generation's resolved facts.
#[derive(Debug)]
pub struct Pin {
    /// Its number.
    pub generation: Generation,
    /// Its settings.
    pub policy: Rc<Policy>,
    /// The working directory, resolved.
    pub cwd: PathBuf,
    /// The program: its directory resolved, its last component as given.
    pub program: PathBuf,
    /// The command as given.
    pub command: Vec<OsString>,
    /// The environment before our own variables.
    pub environment: Environment,
    /// Its listeners.
    pub listeners: Rc<Vec<Listener>>,
    /// In which protocols they are told of them, besides systemd's.
    pub exports: Vec<Protocol>,
    /// The fd of the heartbeat page in its workers.
    pub beat_fd: i32,
    /// What every spawn hands to the kernel, made once.
    pub launch: Launch,
    /// What reloads have changed of the recipe: part of it.
    pub changes: Changes,
    /// The program's inode when it was resolved; None: it could not be told.
    pub inode: Option<u64>,
}

impl Recipe {
    /// Resolves the recipe with these changes as the world stands now.
    ///
    /// # Errors
    /// A directory or program that is not there or may not be executed, a byte that no exec can carry: exit 1, and the
    /// path stands in the message.
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
        let cwd = program::real_dir(&wanted)
            .map_err(|error| failed(format!("working directory {}", wanted.display()), error))?;
        let environment = changed(merged(&self.environment, &self.set), &changes);
        let command = match &changes.command {
            Some(command) => command.iter().map(|Text(arg)| arg.clone()).collect(),
            None => self.command.clone(),
        };
        let name = command
            .first()
            .ok_or_else(|| Error::usage("no worker COMMAND"))?;
        let path = value(&environment, "PATH").or(self.path.as_deref());
        let program = program::find(name, &cwd, path).map_err(|error| {
            failed(
                format!("worker program {}", Path::new(name).display()),
                error,
            )
        })?;
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
            self.nofile,
            changes,
        )
    }
}

impl Pin {
    /// A pin of what is resolved already.
    ///
    /// # Errors
    /// A byte that no exec can carry, a listener that an export cannot hold.
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
        let inode = procfs::program_inode(&program);
        Ok(Pin {
            generation,
            policy,
            cwd,
            program,
            command,
            environment,
            listeners,
            exports,
            beat_fd,
            launch,
            changes,
            inode,
        })
    }

    /// The same under another number: what a rollback starts.
    ///
    /// # Errors
    /// The program has gone meanwhile: exit 1.
    pub fn renumbered(&self, generation: Generation) -> Result<Pin> {
        program::check(&self.program)
            .map_err(|error| failed(format!("worker program {}", self.program.display()), error))?;
        program::real_dir(&self.cwd)
            .map_err(|error| failed(format!("working directory {}", self.cwd.display()), error))?;
        Ok(Pin {
            generation,
            policy: Rc::clone(&self.policy),
            cwd: self.cwd.clone(),
            program: self.program.clone(),
            command: self.command.clone(),
            environment: self.environment.clone(),
            listeners: Rc::clone(&self.listeners),
            exports: self.exports.clone(),
            beat_fd: self.beat_fd,
            launch: Launch {
                env: common_env(
                    generation,
                    &self.policy,
                    &self.environment,
                    &self.listeners,
                    &self.exports,
                    self.beat_fd,
                )?,
                ..self.launch.clone()
            },
            changes: self.changes.clone(),
            inode: procfs::program_inode(&self.program),
        })
    }

    /// The generation's `PF_RELEASE`.
    pub fn release(&self) -> Option<String> {
        value(&self.environment, "PF_RELEASE").map(|value| value.to_string_lossy().into_owned())
    }
}

/// The variables of one worker: its slot, and the address of its notification socket; `acks`: where einhorn's acks are heard.
pub fn own_env(pin: &Pin, slot: u32, notify: &str, acks: Option<&Path>) -> Vec<CString> {
    let mut own: Vec<OsString> = vec![
        format!("PF_WORKER={slot}").into(),
        format!("NOTIFY_SOCKET={notify}").into(),
    ];
    if pin.exports.contains(&Protocol::Einhorn) {
        own.push(format!("EINHORN_CHILD_INDEX={slot}").into());
        own.extend(acks.map(|path| {
            let mut variable = OsString::from("EINHORN_SOCK_PATH=");
            variable.push(path);
            variable
        }));
    }
    // None holds a NUL: numbers, an address of our own making, a path that is bound.
    own.into_iter()
        .filter_map(|variable| CString::new(variable.into_vec()).ok())
        .collect()
}

fn own_pid_in(policy: &Policy, listeners: &[Listener]) -> Vec<&'static str> {
    let mut names = Vec::new();
    if !listeners.is_empty() {
        names.push("LISTEN_PID");
    }
    if policy.timeout.is_some() {
        names.push("WATCHDOG_PID");
    }
    names
}

/// The first number after the listeners that nothing else has.
fn beat_fd(listeners: usize, ready: Readiness, keep: &[i32]) -> i32 {
    let first = FIRST_FD.saturating_add(i32::try_from(listeners).unwrap_or(i32::MAX));
    let free = |number: &i32| ready != Readiness::Fd(*number) && !keep.contains(number);
    (first..i32::MAX).find(free).unwrap_or(first)
}

/// The variables that all workers of a generation share.
fn common_env(
    generation: Generation,
    policy: &Policy,
    environment: &Environment,
    listeners: &[Listener],
    protocols: &[Protocol],
    beat_fd: i32,
) -> Result<Vec<CString>> {
    let master = std::process::id().to_string();
    let mut own: Vec<(&str, String)> = vec![
        ("PF_GENERATION", generation.to_string()),
        ("PF_MASTER_PID", master.clone()),
        ("PF_HEARTBEAT_FD", beat_fd.to_string()),
    ];
    if let Some(timeout) = policy.timeout {
        own.push(("WATCHDOG_USEC", timeout.as_micros().to_string()));
    }
    if protocols.contains(&Protocol::Einhorn) {
        own.push(("EINHORN_MASTER_PID", master));
    }
    if protocols.contains(&Protocol::ServerStarter) {
        own.push(("SERVER_STARTER_GENERATION", generation.to_string()));
    }
    if !listeners.is_empty() {
        let names = listeners
            .iter()
            .map(|listener| listener.name.as_ref().map(|name| name.as_str()));
        let (count, names) = listen_env::render(names);
        own.push(("LISTEN_FDS", count));
        own.push(("LISTEN_FDNAMES", names));
    }
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    let exported = exports::render(protocols, &addresses, FIRST_FD).map_err(Error::usage)?;
    let exported = exported
        .iter()
        .map(|(name, value)| (OsStr::new(name), value.as_os_str()));
    let ours = own
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::new(value)))
        .chain(exported);
    let theirs = environment
        .iter()
        .filter(|(name, _)| !is_ours(name))
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    theirs
        .chain(ours)
        .map(|(name, value)| variable(name, value))
        .collect()
}

/// Whether the variable belongs to the master: what it was given of these protocols itself is not for its workers, and what a user sets would
/// only contradict the master.
pub fn is_ours(name: &OsStr) -> bool {
    const OURS: [&str; 9] = [
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PIDFDID",
        "FDSTORE",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "PF_HEARTBEAT_FD",
    ];
    OURS.iter().any(|ours| name == OsStr::new(ours))
        || ["PF_WORKER", "PF_GENERATION", "PF_MASTER_PID", "PF_HOLD"]
            .iter()
            .chain(&[STATE_FD, CHECK_FD, FAILED, LINK_FD])
            .any(|ours| name == OsStr::new(ours))
        || exports::tells_of_listeners(name)
        || exports::tells_of_master(name)
}

fn merged(base: &Environment, set: &Environment) -> Environment {
    let mut merged: Environment = base
        .iter()
        .filter(|(name, _)| !set.iter().any(|(other, _)| other == name))
        .cloned()
        .collect();
    for (index, (name, value)) in set.iter().enumerate() {
        // The last of several counts.
        if !set[index + 1..].iter().any(|(later, _)| later == name) {
            merged.push((name.clone(), value.clone()));
        }
    }
    merged
}

/// `reload --set` and `--unset` have the last word.
fn changed(environment: Environment, changes: &Changes) -> Environment {
    let touched = |name: &OsString| {
        let name = name.to_str();
        name.is_some_and(|name| changes.set.contains_key(name) || changes.unset.contains(name))
    };
    let set = changes.set.iter();
    environment
        .into_iter()
        .filter(|(name, _)| !touched(name))
        .chain(set.map(|(name, Text(value))| (name.into(), value.clone())))
        .collect()
}

fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|(own, _)| own == name)
        .map(|(_, value)| value.as_os_str())
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString> {
    let mut bytes = name.to_os_string().into_vec();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    c_string(OsStr::from_bytes(&bytes))
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| failed(format!("'{}'", text.to_string_lossy()), "holds a NUL byte"))
}

fn failed(what: String, why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Failed, what, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn what_is_set_wins_and_the_last_of_several_counts() {
        let base = environment(&[("A", "1"), ("B", "2")]);
        let set = environment(&[("B", "3"), ("C", "4"), ("B", "5")]);
        assert_eq!(
            merged(&base, &set),
            environment(&[("A", "1"), ("C", "4"), ("B", "5")])
        );
    }

    #[test]
    fn a_reload_sets_and_unsets_last() {
        let changes: Changes =
            serde_json::from_str(r#"{"set":{"A":"2","N":"3"},"unset":["B"]}"#).expect("changes");
        let base = environment(&[("A", "1"), ("B", "2"), ("C", "3")]);
        assert_eq!(
            changed(base, &changes),
            environment(&[("C", "3"), ("A", "2"), ("N", "3")])
        );
    }

    #[test]
    fn the_heartbeat_page_comes_after_the_listeners_and_not_at_the_ready_fd() {
        assert_eq!(beat_fd(2, Readiness::Auto, &[]), 5);
        assert_eq!(beat_fd(2, Readiness::Fd(5), &[6, 8]), 7);
        assert_eq!(beat_fd(2, Readiness::Fd(9), &[]), 5);
    }
}
