//! Why no second master may be started here, also if the model would.

use std::ffi::OsStr;

use crate::driver::state::Driver;
use crate::sys::files::pidfile::{self, Owner};
use crate::sys::process::{parent, proc_info};
use crate::wire::names::old_pid_file;

/// Programs that start a service, wait for its process, and take the end of that for the end of the
/// service.
const WAIT_FOR_THE_PID: [&str; 11] = [
    "runsv",
    "s6-supervise",
    "supervise",
    "supervisord",
    "perpd",
    "circusd",
    "tini",
    "docker-init",
    "dumb-init",
    "catatonit",
    "dinit",
];

impl Driver {
    /// Why an upgrade by fork is no part of a rehearsal; None: it is.
    ///
    /// An operator who asks for one knows the service manager. A rehearsal does not, and a manager
    /// that knows nothing of the new pid would stop the service with the old master, or start it a
    /// second time.
    pub(in crate::driver) fn why_no_rehearsal_by_fork(&self) -> Option<String> {
        self.why_no_fork().or_else(|| self.why_manager_waits())
    }

    fn why_manager_waits(&self) -> Option<String> {
        // Who is told MAINPID= goes on with the new master.
        if self.service_manager.is_some() {
            return None;
        }
        let pid = parent::pid();
        let name = proc_info::name(pid)?;
        // A unit of the type `forking`, which has detached, is followed by its pid file.
        let is_unit = self.origin.environment.value("INVOCATION_ID").is_some();
        let is_detached = self.origin.argv.iter().any(|arg| arg == "--daemonize");
        let waits = match name.as_str() {
            "systemd" => is_unit && !is_detached,
            // The parent of all orphans, too; those are of another session mostly.
            _ if pid == 1 => !is_detached && parent::is_in_our_session(pid),
            name => WAIT_FOR_THE_PID.contains(&name),
        };
        waits.then(|| {
            format!("{name}, process {pid}, takes the end of the old master for the service's")
        })
    }

    /// Whether `pf-listen --hold` has started this master, and keeps its listeners open.
    pub(in crate::driver) fn is_under_holder(&self) -> bool {
        let holder = self.origin.environment.value("PF_HOLD");
        parent::is_holder(holder.and_then(OsStr::to_str))
    }

    /// Why an upgrade by fork is refused; None: it is not.
    pub(in crate::driver) fn why_no_fork(&self) -> Option<String> {
        let in_place = "upgrade in place";
        if std::process::id() == 1 {
            return Some(format!(
                "pid 1 cannot leave its place to another: {in_place}"
            ));
        }
        if self.is_under_holder() {
            return Some(format!(
                "pf-listen --hold keeps this one master running: {in_place}"
            ));
        }
        let old = old_pid_file(self.published.pid_file()?.path());
        match pidfile::owner(&old) {
            Ok(Owner::Alive(pid)) => Some(format!(
                "{} names process {pid}, which lives",
                old.display()
            )),
            Ok(Owner::Unreachable) => Some(format!(
                "{} is owned by a process of another pid namespace",
                old.display()
            )),
            Ok(Owner::Absent | Owner::Stale) | Err(_) => None,
        }
    }
}
