//! What one image of the master hands over to the next at an upgrade in place: everything that the
//! process is, except for what the kernel keeps by itself (children, locks, what waits in sockets).
//!
//! The state is one JSON document in a file whose descriptor `PF_STATE_FD` names. It is versioned:
//! an image reads its own [`FORMAT`] and the one before it, ignores fields that it does not know,
//! and refuses everything else before anything has happened, since the same document is first given
//! to a child (`PF_UPGRADE_CHECK`, see [`preflight`]).
//!
//! Descriptors are numbers here: they stay open across the exec.
//!
//! - [`State`] and what it is made of: this file;
//! - [`service`]: the model, in it; `worker`: one worker and the deadlines;
//! - [`changes`]: rollouts and scalings; [`exits`]: how workers ended; [`releases`]: what can be
//!   gone back to;
//! - `pin`: what a generation was pinned to; [`closed`]: the listeners of it that are closed;
//! - [`totals`]: what was counted;
//! - [`operations`]: the operations that are remembered;
//! - [`clients`]: the control socket and who is connected to it;
//! - [`values`]: the model's plain values as JSON has them;
//! - [`preflight`]: the answer of an image that is only checked.

pub mod changes;
pub mod clients;
pub mod closed;
pub mod exits;
pub mod operations;
mod pin;
pub mod preflight;
pub mod releases;
pub mod service;
pub mod totals;
pub mod values;
mod worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::events::kept::KnownEvents;
use super::exports::Protocol;
use super::story::kept::KnownStories;
use super::text::{Text, shown};
use crate::model::Supervisor;
pub use clients::{Acks, Awaited, Client, Clients, Control, Entry, Follows, Pending};
pub use pin::Pin;
use service::Service;
use values::{Moment, ReportedToManager, SignalName};

/// The format that is written.
pub const FORMAT: u32 = 1;

/// The oldest format that is read; there is none before the first.
pub const OLDEST: u32 = 1;

/// Names the descriptor of the state.
pub const STATE_FD: &str = "PF_STATE_FD";

/// Names the descriptor on which an image that is only checked answers.
pub const CHECK_FD: &str = "PF_UPGRADE_CHECK";

/// Tells an image that is executed again why its successor went back to it.
pub const FAILED: &str = "PF_UPGRADE_FAILED";

/// The process, as it is handed over.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`] of the image that wrote it.
    pub format: u32,
    /// The version of the image that wrote it.
    pub by: String,
    /// The master's pid, which an exec keeps.
    pub pid: i32,
    /// The image that wrote it.
    pub image: Image,
    /// The model, with all its slots, workers, timers and operations.
    pub service: Service,
    /// RLIMIT_NOFILE as the master was given it.
    pub nofile: Option<(u64, u64)>,
    /// The signals that the first image was given ignored.
    pub ignored: Vec<SignalName>,
    /// When the service was started.
    pub started: Moment,
    /// The same on the wall's clock, in nanoseconds since 1970.
    pub started_wall: u64,
    /// The sets of listeners that generations have; the first is what new ones get.
    pub listeners: Vec<Vec<Listener>>,
    /// What generations were pinned to.
    pub pins: Vec<Pin>,
    /// `--keep-fd`: where each descriptor is, and the number that workers have it as.
    pub keep: Vec<(i32, i32)>,
    /// `--lifeline-fd`, unless that is standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifeline: Option<i32>,
    /// The guard, if there is one.
    pub guard: Option<Guard>,
    /// The workers' processes.
    pub processes: Vec<Process>,
    /// The control socket.
    pub control: Option<Control>,
    /// Where einhorn's acks are heard.
    #[serde(default)]
    pub acks: Option<Acks>,
    /// The protocols in which the first image was told of listeners.
    #[serde(default)]
    pub inherited_exports: Vec<Protocol>,
    /// The addresses that `--listen` named: those that are not among them are new.
    pub listen: Vec<String>,
    /// The pid file.
    pub pid_file: Option<PidFile>,
    /// Who is connected to the control socket.
    pub clients: Clients,
    /// The events; None: the image that wrote this has none, being older.
    #[serde(default)]
    pub events: Option<KnownEvents>,
    /// What has happened to each slot. An image that is older leaves it out.
    #[serde(default, skip_serializing_if = "KnownStories::is_empty")]
    pub stories: KnownStories,
    /// What control clients must present: its file may be gone when the next image reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_token: Option<String>,
    /// The service manager above us, if one listens.
    #[serde(default)]
    pub service_manager: Option<ServiceManager>,
    /// The old master that still drains beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_master: Option<DrainingMaster>,
    /// What the next image needs; its check finds out whether there is as much.
    #[serde(default)]
    pub needs: Needs,
    /// The directory in which the first image was started, if it is gone.
    #[serde(default)]
    pub missing_dir: Option<MissingDir>,
}

/// What an image needs to take over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// So many descriptors open at once.
    pub descriptors: usize,
    /// So many bytes of memory.
    pub memory: u64,
}

/// A directory that is gone: the next image is executed in another one, and still means this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingDir {
    /// The directory that is gone.
    pub dir: Text,
    /// The one in which the next image is executed.
    pub instead: Text,
}

/// What a service manager knows; where it listens stands in the environment, which stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceManager {
    /// The pid that it has started: another than this master's if that has detached.
    pub launch_pid: u32,
    /// What it was told.
    pub reported: ReportedToManager,
}

/// The old master beside this one after an upgrade by fork: its process, and the link to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrainingMaster {
    /// The link.
    pub link: i32,
    /// Messages that the link had no room for.
    pub unsent: Vec<Text>,
    /// Its pid.
    pub pid: i32,
    /// A pidfd of it; None: it is known to be gone.
    pub process: Option<i32>,
    /// The path that it has moved its pid file to.
    pub pid_file: Option<Text>,
    /// The path that it has moved its control socket to.
    pub control: Option<Text>,
}

/// The image that hands over: an image that cannot take over goes back to it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image {
    /// Its file, which may have been replaced or deleted meanwhile.
    pub fd: i32,
    /// Its command line.
    pub argv: Vec<Text>,
}

/// A listener.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listener {
    /// Its descriptor.
    pub fd: i32,
    /// Its name.
    pub name: Option<String>,
    /// The descriptor that it was inherited as at the first start.
    pub source: Option<i32>,
    /// Its effective backlog, where it is known.
    pub backlog: Option<u32>,
}

/// The guard.
#[derive(Debug, Serialize, Deserialize)]
pub struct Guard {
    /// The master's end of its socket.
    pub fd: i32,
    /// Its pid.
    pub pid: i32,
}

/// A worker's process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Process {
    /// The model's name for it.
    pub id: u64,
    /// Its leader's pid.
    pub leader: i32,
    /// What of its leader is left.
    pub hold: Hold,
    /// Its leader has been reaped, and that was acted on.
    pub leaderless: bool,
    /// What asks it to finish, and how long that may take, in milliseconds: the guard's terms.
    pub terms: (SignalName, u64),
    /// Its heartbeat page.
    pub beat: Beat,
    /// When it last beat.
    pub last_beat: Option<Moment>,
    /// Its last `STATUS=`.
    pub status: Option<String>,
    /// What it has done so far, as far as that was counted: requests, connections, processor time.
    #[serde(default)]
    pub counted: (u64, u64, Duration),
    /// Its notification socket: the descriptor and the address.
    pub notify: (i32, String),
    /// Tells whether it was executed, while that is not known.
    pub outcome: Option<i32>,
    /// It said that it is about to be.
    pub about_to_execute: bool,
    /// Its ready pipe.
    pub ready: Option<i32>,
}

/// How a worker's group is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// The leader is a child that has not been reaped.
    Leader,
    /// The leader has ended and is not reaped on purpose.
    Kept,
    /// The leader has been reaped; this pidfd names its group, if there is one.
    Handle(Option<i32>),
    /// It has been reaped, and no process was left.
    #[serde(alias = "Nobody")]
    Empty,
}

/// A heartbeat page, and what was last seen of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Beat {
    /// Its descriptor.
    pub fd: i32,
    /// Inode change time, seconds and nanoseconds.
    pub changed: (i64, i64),
    /// Modification time, seconds and nanoseconds.
    pub modified: (i64, i64),
    /// Its mode.
    pub mode: u32,
    /// The counter.
    pub beats: u64,
}

/// The pid file.
#[derive(Debug, Serialize, Deserialize)]
pub struct PidFile {
    /// The descriptor that holds the lock.
    pub fd: i32,
    /// Its path.
    pub path: Text,
}

/// What every format begins with: so also an image that cannot read the rest knows which image to
/// go back to.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// The format.
    pub format: u32,
    /// The version of the image that wrote it.
    #[serde(default)]
    pub by: String,
    /// The master's pid.
    #[serde(default)]
    pub pid: i32,
    /// The image that wrote it.
    pub image: Option<Image>,
}

impl Head {
    /// Reads what every format begins with.
    ///
    /// # Errors
    /// It is no state at all; in words.
    pub fn parse(document: &[u8]) -> Result<Head, String> {
        serde_json::from_slice(document).map_err(not_understood)
    }
}

impl State {
    /// Every descriptor that the next image needs.
    pub fn descriptors(&self) -> Vec<i32> {
        let mut all = vec![self.image.fd];
        all.extend(self.listeners.iter().flatten().map(|listener| listener.fd));
        all.extend(self.keep.iter().map(|(fd, _)| *fd));
        all.extend(self.lifeline);
        all.extend(self.guard.as_ref().map(|guard| guard.fd));
        all.extend(self.control.as_ref().map(|control| control.fd));
        if let Some(acks) = &self.acks {
            all.push(acks.socket.fd);
            all.extend(acks.clients.iter().map(|client| client.fd));
        }
        all.extend(self.pid_file.as_ref().map(|file| file.fd));
        for client in &self.clients.all {
            all.push(client.fd);
            all.extend(client.carried());
        }
        if let Some(master) = &self.draining_master {
            all.push(master.link);
            all.extend(master.process);
        }
        for process in &self.processes {
            all.extend([process.beat.fd, process.notify.0]);
            all.extend(process.outcome);
            all.extend(process.ready);
            if let Hold::Handle(Some(handle)) = process.hold {
                all.push(handle);
            }
        }
        all
    }

    /// The model, as this image goes on with it.
    ///
    /// # Errors
    /// The document contradicts itself; in words.
    pub fn supervisor(&self) -> Result<Supervisor, String> {
        Supervisor::taken_over(self.service.clone().try_into()?)
            .map_err(|why| format!("the state of the running master is not understood: {why}"))
    }

    /// The document.
    ///
    /// # Errors
    /// None that is known: there is nothing in it that JSON cannot hold.
    pub fn render(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| format!("the state cannot be written: {error}"))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// It is of another format, or none; in words.
    pub fn parse(document: &[u8]) -> Result<State, String> {
        let head = Head::parse(document)?;
        if !(OLDEST..=FORMAT).contains(&head.format) {
            let reads = if OLDEST == FORMAT {
                FORMAT.to_string()
            } else {
                format!("{OLDEST} to {FORMAT}")
            };
            return Err(format!(
                "the state of the running master (version {}) has format {}, and this program reads format {reads}",
                shown(&head.by),
                head.format
            ));
        }
        serde_json::from_slice(document).map_err(not_understood)
    }
}

fn not_understood(error: serde_json::Error) -> String {
    let error = shown(error);
    format!("the state of the running master is not understood: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_format_is_refused_in_words() {
        for (document, why) in [
            (
                r#"{"format": 2, "by": "0.9.0"}"#,
                "version 0.9.0) has format 2",
            ),
            (r#"{"format": 0}"#, "has format 0"),
            (
                r#"{"format": 2, "by": "\u001b"}"#,
                "version \\u{1b}) has format 2",
            ),
            (r#"{"format": 1}"#, "not understood: missing field"),
            ("{}", "missing field `format`"),
            ("", "not understood"),
        ] {
            let error = State::parse(document.as_bytes()).expect_err(document);
            assert!(error.contains(why), "{error}");
        }
    }
}
