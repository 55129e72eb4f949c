//! Finds what workers left behind outside their groups: daemons, and helpers in a session of their
//! own. The master is a subreaper, so they are its children, or descend from one that is.

use crate::model::event::Event;
use crate::model::ids::WorkerId;
use crate::model::leftover::{Holds, LeftBehind, LeftBy};
use crate::sys::process::descendants;
use crate::sys::process::group::group_of;
use crate::sys::process::guard;
use crate::sys::process::proc_info;
use crate::sys::process::wait;
use crate::wire::environment::Environment;
use crate::wire::listen_env::TAKEN_FROM;

use super::state::Driver;

/// Whether it was started with listeners that `pf-ctl take-fds` got from this master: then they are
/// its own, and it is not of the service.
fn has_taken_listeners(environment: Option<&Environment>) -> bool {
    let from = environment.and_then(|it| it.number::<u32>(TAKEN_FROM));
    from == Some(std::process::id())
}

impl Driver {
    /// Looks, and tells the model.
    pub(super) fn look_for_leftovers(&mut self) {
        let found = self.find_leftovers();
        self.feed(found);
    }

    /// All that is left behind now. Zombies do not count.
    pub(super) fn find_leftovers(&mut self) -> Event {
        let mut pids = descendants::adopted(&|pid| self.processes.is_known_child(pid));
        // A child is asked for by its number: /proc may hide another user's process (hidepid).
        pids.retain(|pid| match wait::peek(*pid) {
            Ok(ended) => ended.is_none(),
            Err(_) => proc_info::is_live(*pid),
        });
        let ids = self.leftovers.found(&pids);
        let found = pids.into_iter().zip(ids);
        Event::LeftBehind(
            found
                .filter_map(|(pid, id)| {
                    let environment = proc_info::environment(pid);
                    let environment = environment.as_ref();
                    if has_taken_listeners(environment) {
                        return None;
                    }
                    let left_behind = LeftBehind {
                        id: id?,
                        pid,
                        group: group_of(pid).unwrap_or(pid),
                        name: proc_info::name(pid).unwrap_or_default(),
                        slot: environment.and_then(|it| it.number("PF_WORKER")),
                        left_by: self.left_by(environment),
                        holds: self.holds(pid),
                    };
                    (!is_guard(&left_behind)).then_some(left_behind)
                })
                .collect(),
        )
    }

    /// The notify socket names the worker, and every process that the worker starts inherits its
    /// address.
    fn left_by(&self, environment: Option<&Environment>) -> LeftBy {
        let Some(environment) = environment else {
            return LeftBy::Unknown;
        };
        let address = environment
            .value("NOTIFY_SOCKET")
            .and_then(|it| it.to_str());
        let worker = address.and_then(|address| self.processes.by_notify_address(address));
        match (worker, environment.number::<u32>("PF_MASTER_PID")) {
            (Some(worker), _) => LeftBy::Worker(worker),
            (None, Some(master)) if master == std::process::id() => LeftBy::GoneWorker,
            (None, Some(_)) => LeftBy::OtherMaster,
            (None, None) => LeftBy::Unknown,
        }
    }

    /// The processes outside its group that this living worker has started, and that may accept
    /// connections for it.
    pub(super) fn started_by(&self, worker: WorkerId, leader: i32) -> Vec<i32> {
        let mut started = descendants::descendants(leader);
        let adopted = descendants::adopted(&|pid| self.processes.is_known_child(pid));
        started.extend(adopted.into_iter().filter(|pid| {
            let environment = proc_info::environment(*pid);
            self.left_by(environment.as_ref()) == LeftBy::Worker(worker)
        }));
        started
    }

    fn holds(&self, pid: i32) -> Holds {
        let inodes = self.listeners.all_inodes();
        match proc_info::held_sockets(pid, &inodes) {
            Ok(held) if held.is_empty() => Holds::Nothing,
            Ok(held) => Holds::Listeners(self.listeners.labels(&held)),
            // Another user's, or one that is not dumpable.
            Err(_) => {
                let open = self.listeners.open_elsewhere();
                match open.is_empty() {
                    true => Holds::Nothing,
                    false => Holds::Perhaps(self.listeners.labels(&open)),
                }
            }
        }
    }
}

/// The guard of a new master that was killed: no worker has left it, and it ends with the workers
/// of that master.
fn is_guard(found: &LeftBehind) -> bool {
    let is_of_a_worker = match found.left_by {
        LeftBy::Worker(_) | LeftBy::GoneWorker => true,
        LeftBy::OtherMaster | LeftBy::Unknown => false,
    };
    !is_of_a_worker
        && found.holds == Holds::Nothing
        && guard::NAME.to_str().is_ok_and(|name| name == found.name)
}
