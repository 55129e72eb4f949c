//! The handler processes: starts one on a connection, signals its process group, reaps it, and
//! watches its group until it is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::manager::Counted;
use crate::model::machines::acceptor::ClientId;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::listener::shared_accept::Connection;
use crate::sys::process::group::Group;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Launch, Plumbing, SpawnOutcome, SpawnStep};
use crate::sys::process::wait::{self, WaitStatus};
use crate::wire::ucspi::{self, Ends, UNIX_LOCAL_PID};

/// The running handlers, and the process groups that exited handlers left.
pub(super) struct Handlers {
    own_pid: i32,
    launch: Launch,
    /// For a Unix socket: the handler has its own pid in a variable (UNIXLOCALPID).
    unix_launch: Launch,
    all: BTreeMap<ClientId, HandlerProcess>,
    by_pid: BTreeMap<i32, ClientId>,
    /// The handler has exited, but its group is not empty.
    leftovers: BTreeSet<ClientId>,
    /// Accepted connections whose handler could not be started yet.
    waiting: BTreeMap<ClientId, CountedConnection>,
}

struct HandlerProcess {
    group: Group,
    outcome: OwnedFd,
    ends: Ends,
    began: Time,
    counted: Option<Counted>,
    /// TERM or KILL was sent to it.
    told_to_exit: bool,
}

/// An accepted connection that waits for its handler. The manager counts it already.
pub(super) struct CountedConnection {
    pub(super) connection: Connection,
    pub(super) counted: Counted,
}

/// How a handler process ended.
pub(super) struct HandlerExit {
    pub(super) client: ClientId,
    pub(super) pid: i32,
    pub(super) ends: Ends,
    pub(super) began: Time,
    pub(super) how: WaitStatus,
    /// TERM or KILL was sent to it.
    pub(super) told_to_exit: bool,
    /// It never executed its program: what failed, and errno.
    pub(super) not_started: Option<(SpawnStep, i32)>,
    /// No process is left in its group.
    pub(super) alone: bool,
}

impl Handlers {
    pub(super) fn new(launch: Launch) -> Handlers {
        Handlers {
            own_pid: i32::try_from(std::process::id()).unwrap_or_default(),
            unix_launch: Launch {
                own_pid_in: vec![UNIX_LOCAL_PID],
                ..launch.clone()
            },
            launch,
            all: BTreeMap::new(),
            by_pid: BTreeMap::new(),
            leftovers: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Starts a handler and returns its pid. If a resource is short for now, the connection waits.
    ///
    /// # Errors
    /// EMFILE, ENFILE, EAGAIN, ENOMEM: a resource is short. Others are permanent.
    pub(super) fn start(
        &mut self,
        client: ClientId,
        taken: CountedConnection,
        now: Time,
    ) -> io::Result<i32> {
        let Connection { socket, ends } = &taken.connection;
        // No value has a NUL.
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
            Ends::Unix { .. } => &self.unix_launch,
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
                    self.waiting.insert(client, taken);
                }
                return Err(error);
            }
        };
        let handler = HandlerProcess {
            group,
            outcome: spawned.outcome,
            ends: taken.connection.ends,
            began: now,
            counted: Some(taken.counted),
            told_to_exit: false,
        };
        self.all.insert(client, handler);
        self.by_pid.insert(spawned.pid, client);
        Ok(spawned.pid)
    }

    /// Takes the connection that waits longest for its handler.
    pub(super) fn pop_waiting(&mut self) -> Option<(ClientId, CountedConnection)> {
        self.waiting.pop_first()
    }

    /// Closes the connection of a client that waits for its handler; false: it does not wait.
    pub(super) fn close_waiting(&mut self, client: ClientId) -> bool {
        self.waiting.remove(&client).is_some()
    }

    /// The handler and its client, for a log line; also of a client that waits for its handler.
    pub(super) fn describe(&self, client: ClientId) -> String {
        let running = self.all.get(&client).map(|handler| {
            let (pid, who) = (handler.group.leader(), ucspi::client(&handler.ends));
            format!("handler {pid} for {who}")
        });
        let waiting = || {
            let taken = self.waiting.get(&client)?;
            let who = ucspi::client(&taken.connection.ends);
            Some(format!("the wait of {who} for a handler"))
        };
        running
            .or_else(waiting)
            .unwrap_or_else(|| "a handler".to_owned())
    }

    /// Sends TERM to the process group of a handler.
    pub(super) fn request_exit(&mut self, client: ClientId) {
        if let Some(handler) = self.all.get_mut(&client) {
            handler.told_to_exit = true;
            // EPERM if a process has changed its user: then nothing can be done. CONT wakes stopped
            // processes, which otherwise would not act on TERM.
            let _ = handler.group.signal_group(Signal::Term);
            let _ = handler.group.signal_group(Signal::Cont);
        }
    }

    /// Sends KILL to the process group of a handler.
    pub(super) fn kill(&mut self, client: ClientId) {
        if let Some(handler) = self.all.get_mut(&client) {
            handler.told_to_exit = true;
            let _ = handler.group.signal_group(Signal::Kill);
        }
    }

    /// Forgets a handler and its group.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.leftovers.remove(&client);
        if let Some(handler) = self.all.remove(&client) {
            self.by_pid.remove(&handler.group.leader());
        }
    }

    /// Reaps every child that has exited: handlers, and orphans that this subreaper has adopted.
    pub(super) fn reap(&mut self) -> Vec<HandlerExit> {
        let mut exits = Vec::new();
        while let Some((pid, _)) = wait::peek_any() {
            match self.by_pid.remove(&pid) {
                Some(client) => exits.extend(self.reap_handler(client)),
                None => {
                    if !matches!(wait::reap(pid), Ok(Some(_))) {
                        break;
                    }
                }
            }
        }
        exits
    }

    fn reap_handler(&mut self, client: ClientId) -> Option<HandlerExit> {
        let handler = self.all.get_mut(&client)?;
        let how = handler.group.reap().ok()??;
        handler.counted = None;
        // `release`: the leader was kept as a zombie, because there was no pidfd to follow the rest
        // of its group by. It is reaped now, since a kept zombie would block the reaping of others;
        // the rest of its group is not watched.
        let alone = handler.group.reap_kept_leader() || handler.group.is_empty();
        let mut about = false;
        let not_started = match spawn::read_outcome(handler.outcome.as_fd(), &mut about) {
            SpawnOutcome::Failed { step, errno } => Some((step, errno)),
            SpawnOutcome::Executed | SpawnOutcome::Died | SpawnOutcome::Pending => None,
        };
        let exit = HandlerExit {
            client,
            pid: handler.group.leader(),
            ends: handler.ends.clone(),
            began: handler.began,
            how,
            told_to_exit: handler.told_to_exit,
            not_started,
            alone,
        };
        if alone {
            self.all.remove(&client);
        } else {
            self.leftovers.insert(client);
        }
        Some(exit)
    }

    /// Forgets and returns the clients whose handler had exited and whose group is empty by now.
    pub(super) fn forget_empty_groups(&mut self) -> Vec<ClientId> {
        let is_empty = |client: &ClientId| {
            let handler = self.all.get(client);
            handler.is_none_or(|handler| handler.group.is_empty())
        };
        let gone: Vec<ClientId> = self.leftovers.iter().copied().filter(is_empty).collect();
        for client in &gone {
            self.forget(*client);
        }
        gone
    }
}
