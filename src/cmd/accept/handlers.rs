//! The handlers: starting one on a connection, reaching what it has begun, and seeing its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::manager::Counted;
use crate::model::acceptor::ClientId;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::listener::shared_accept::Connection;
use crate::sys::process::group::Group;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Launch, Plumbing, SpawnOutcome, SpawnStep};
use crate::sys::process::wait::{self, WaitStatus};
use crate::wire::ucspi::{self, Ends, UNIX_LOCAL_PID};

/// All that run, and what those that do not have left behind.
pub(super) struct Handlers {
    own_pid: i32,
    launch: Launch,
    /// For a Unix socket: its own pid is told to it.
    unix: Launch,
    all: BTreeMap<ClientId, Handler>,
    by_pid: HashMap<i32, ClientId>,
    /// Those whose handler has ended, and whose group has not.
    left: BTreeSet<ClientId>,
    /// Those that have a connection, and whose handlers could not be started yet.
    held: BTreeMap<ClientId, Taken>,
}

struct Handler {
    group: Group,
    outcome: OwnedFd,
    ends: Ends,
    began: Time,
    counted: Option<Counted>,
    /// We have told it to end.
    told: bool,
}

/// A connection that is to have a handler.
pub(super) struct Taken {
    pub(super) connection: Connection,
    pub(super) counted: Counted,
}

/// An end.
pub(super) struct End {
    pub(super) client: ClientId,
    pub(super) pid: i32,
    pub(super) ends: Ends,
    pub(super) began: Time,
    pub(super) how: WaitStatus,
    /// We had told it to.
    pub(super) told: bool,
    /// It never ran its program.
    pub(super) not_started: Option<(SpawnStep, i32)>,
    /// Nobody is left in its group.
    pub(super) alone: bool,
}

impl Handlers {
    pub(super) fn new(launch: Launch) -> Handlers {
        Handlers {
            own_pid: i32::try_from(std::process::id()).unwrap_or_default(),
            unix: Launch {
                own_pid_in: vec![UNIX_LOCAL_PID],
                ..launch.clone()
            },
            launch,
            all: BTreeMap::new(),
            by_pid: HashMap::new(),
            left: BTreeSet::new(),
            held: BTreeMap::new(),
        }
    }

    /// Starts one; its pid. Where there is too little of something just now, the connection is held.
    ///
    /// # Errors
    /// EMFILE, ENFILE, EAGAIN, ENOMEM; or what does not pass.
    pub(super) fn start(&mut self, client: ClientId, taken: Taken, now: Time) -> io::Result<i32> {
        let Connection { socket, ends } = &taken.connection;
        // No value holds a NUL.
        let env: Vec<CString> = ucspi::variables(ends)
            .into_iter()
            .filter_map(|variable| CString::new(variable).ok())
            .collect();
        let plumbing = Plumbing {
            stdin: socket.as_fd(),
            fds: &[(socket.as_fd(), 1)],
            guard: None,
            env: &env,
        };
        let launch = match ends {
            Ends::Unix { .. } => &self.unix,
            Ends::Tcp { .. } | Ends::Vsock { .. } => &self.launch,
        };
        let spawned = spawn::spawn(launch, &plumbing, self.own_pid).and_then(|spawned| {
            let group = Group::of_child_in_our_session(spawned.pid)?;
            Ok((spawned, group))
        });
        let (spawned, group) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                if spawn::may_pass(&error) {
                    self.held.insert(client, taken);
                }
                return Err(error);
            }
        };
        let handler = Handler {
            group,
            outcome: spawned.outcome,
            ends: taken.connection.ends,
            began: now,
            counted: Some(taken.counted),
            told: false,
        };
        self.all.insert(client, handler);
        self.by_pid.insert(spawned.pid, client);
        Ok(spawned.pid)
    }

    /// The first of those that are held, which are no longer.
    pub(super) fn held(&mut self) -> Option<(ClientId, Taken)> {
        self.held.pop_first()
    }

    /// Closes the connection of one that has no handler; whether there was one.
    pub(super) fn turn_away(&mut self, client: ClientId) -> bool {
        self.held.remove(&client).is_some()
    }

    /// The handler and who is served, for a log line; also of a client whose handler could not be started yet.
    pub(super) fn describe(&self, client: ClientId) -> String {
        let running = self.all.get(&client).map(|handler| {
            let (pid, who) = (handler.group.leader(), ucspi::client(&handler.ends));
            format!("handler {pid} for {who}")
        });
        let held = || {
            let taken = self.held.get(&client)?;
            let who = ucspi::client(&taken.connection.ends);
            Some(format!("the wait of {who} for a handler"))
        };
        running
            .or_else(held)
            .unwrap_or_else(|| "a handler".to_owned())
    }

    /// Tells a handler, and all that it has begun and that is in its group, to end.
    pub(super) fn end(&mut self, client: ClientId) {
        if let Some(handler) = self.all.get_mut(&client) {
            handler.told = true;
            // One that has changed its user may be out of reach, and then nothing can be done.
            let _ = handler.group.signal_group(Signal::Term);
            let _ = handler.group.signal_group(Signal::Cont);
        }
    }

    /// Kills its group.
    pub(super) fn kill(&mut self, client: ClientId) {
        if let Some(handler) = self.all.get_mut(&client) {
            handler.told = true;
            let _ = handler.group.signal_group(Signal::Kill);
        }
    }

    /// Knows it no more.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.left.remove(&client);
        if let Some(handler) = self.all.remove(&client) {
            self.by_pid.remove(&handler.group.leader());
        }
    }

    /// Reaps everybody who has ended, also those who came to us because their parent had.
    pub(super) fn ended(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        while let Some((pid, _)) = wait::peek_any() {
            match self.by_pid.remove(&pid) {
                Some(client) => ends.extend(self.reaped(client)),
                None => {
                    if !matches!(wait::reap(pid), Ok(Some(_))) {
                        break;
                    }
                }
            }
        }
        ends
    }

    fn reaped(&mut self, client: ClientId) -> Option<End> {
        let handler = self.all.get_mut(&client)?;
        let how = handler.group.reap().ok()??;
        handler.counted = None;
        // Without a descriptor for it what is left cannot be followed; but it must not stand in the way of the others.
        let alone = handler.group.reap_kept_leader() || handler.group.is_empty();
        let mut about = false;
        let not_started = match spawn::read_outcome(handler.outcome.as_fd(), &mut about) {
            SpawnOutcome::Failed { step, errno } => Some((step, errno)),
            SpawnOutcome::Executed | SpawnOutcome::Died | SpawnOutcome::Pending => None,
        };
        let end = End {
            client,
            pid: handler.group.leader(),
            ends: handler.ends.clone(),
            began: handler.began,
            how,
            told: handler.told,
            not_started,
            alone,
        };
        if alone {
            self.all.remove(&client);
        } else {
            self.left.insert(client);
        }
        Some(end)
    }

    /// Those whose group has emptied since its handler ended.
    pub(super) fn gone(&mut self) -> Vec<ClientId> {
        let is_empty = |client: &ClientId| {
            let handler = self.all.get(client);
            handler.is_none_or(|handler| handler.group.is_empty())
        };
        let gone: Vec<ClientId> = self.left.iter().copied().filter(is_empty).collect();
        for client in &gone {
            self.forget(*client);
        }
        gone
    }
}
