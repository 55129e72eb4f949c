//! Why no second master may be started here, also if the model would.

use std::ffi::OsStr;

use crate::driver::state::Driver;
use crate::sys::files::pidfile::{self, Owner};
use crate::sys::process::parent;
use crate::wire::names::old_pid_file;

impl Driver {
    /// Why an upgrade by fork is refused; None: it is not.
    pub(in crate::driver) fn why_no_fork(&self) -> Option<String> {
        let in_place = "upgrade in place";
        if std::process::id() == 1 {
            return Some(format!(
                "pid 1 cannot leave its place to another: {in_place}"
            ));
        }
        let holder = self.origin.environment.value("PF_HOLD");
        if parent::is_holder(holder.and_then(OsStr::to_str)) {
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
