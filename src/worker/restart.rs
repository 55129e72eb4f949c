//! The program in its own place, where no master stands above it (G6 to G8).

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::listeners::{Listeners, tells_of_listeners};
use super::notify;
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::listener::Listener;
use crate::sys::machine::clock;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Launch, Leads, Plumbing, SpawnOutcome};
use crate::sys::process::successor::Origin;
use crate::sys::process::{parent, program, wait};
use crate::sys::signal::shutdown;
use crate::wire::listen_env::{self, FIRST_FD};

/// The process that started this one, and waits to be told that it serves.
const PREDECESSOR: &str = "PF_PREDECESSOR";

/// A master stands above: what it starts, it also replaces.
const MASTER: &str = "PF_MASTER_PID";

/// How long it may take until the system has executed the program.
const EXEC: Duration = Duration::from_secs(10);

/// Starts the program anew beside this process, on the same listeners, so that a new release takes over without losing a connection: with the same
/// arguments, in the same directory, with the same environment. The program's path is looked up anew, so a changed symlink is followed.
///
/// This process goes on until the new one, once it serves, tells it to finish by TERM; one that fails to start changes nothing. As a descriptor it
/// is readable when USR2 has come.
///
/// ```no_run
/// # fn main() -> prefork::error::Result<()> {
/// # let handler = |_: &prefork::Connection| -> std::io::Result<()> { Ok(()) };
/// use prefork::{Listeners, Restart, Server};
///
/// let restart = Restart::on_usr2()?; // first of all: it remembers how this process was started
/// let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
/// Server::new().restart(restart).serve(listeners, handler)
/// # }
/// ```
///
/// A program with a loop of its own calls [`start`](Self::start) when it was asked to, and [`take_over`](Self::take_over) once it serves.
#[derive(Debug)]
pub struct Restart {
    origin: Origin,
    asked: OwnedFd,
    /// The one that was started, until it is known that it has ended.
    successor: Mutex<Option<i32>>,
}

impl Restart {
    /// Remembers how this process was started, and listens to USR2. To be called first in `main`: what the program changes afterwards, its directory or
    /// environment, is not passed on.
    ///
    /// # Errors
    /// There is no working directory, or there are too many descriptors.
    pub fn on_usr2() -> Result<Restart> {
        let dir = program::start_dir(std::env::var_os("PWD").as_deref())
            .map_err(|error| Error::system("cannot find the working directory", error))?;
        let asked = shutdown::signal_pipe(Signal::Usr2)
            .map_err(|error| Error::system("cannot handle signals", error))?;
        Ok(Restart {
            origin: Origin::of_this_process(None, dir),
            asked,
            successor: Mutex::new(None),
        })
    }

    /// Whether USR2 has come since the last call. Never waits: to wait, see the descriptor.
    pub fn is_asked(&self) -> bool {
        shutdown::drain_signal_pipe(self.asked.as_fd())
    }

    /// Starts the program anew on these listeners; its pid. They stay ours as well.
    ///
    /// # Errors
    /// There are no listeners (G8), one that was started before is running still, this is a worker of `pf-master`, or the program cannot be executed: exit 1
    /// or 6, and nothing has changed.
    pub fn start(&self, listeners: &Listeners) -> Result<u32> {
        let refused = |why: &str| Error::new(Exit::Refused, "cannot restart", why);
        if listeners.is_empty() {
            return Err(refused("there are no listeners to pass on"));
        }
        if is_parent(MASTER) {
            return Err(refused("this is a worker of pf-master").hint("pf-ctl reload"));
        }
        let mut successor = self
            .successor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *successor
            && matches!(wait::reap(pid), Ok(None))
        {
            return Err(refused(&format!(
                "pid {pid}, which was started before, is running"
            )));
        }
        let pid = self.spawn(listeners)?;
        *successor = Some(pid);
        Ok(pid.unsigned_abs())
    }

    /// Tells the process that started this one by [`start`](Self::start), if it is there still, that it may finish (G7), and a service manager who
    /// serves now. To be called once this process serves. Whether there was one.
    ///
    /// # Errors
    /// It runs as somebody else.
    pub fn take_over() -> Result<bool> {
        let Some(pid) = number(PREDECESSOR) else {
            return Ok(false);
        };
        if parent::is_parent(pid) {
            // Before the one that it knows ends.
            notify::main_pid(std::process::id())?;
        }
        parent::terminate_parent(pid)
            .map_err(|error| Error::system(format!("cannot relieve pid {pid}"), error))
    }

    fn spawn(&self, listeners: &Listeners) -> Result<i32> {
        let failed = |why: &dyn std::fmt::Display| Error::new(Exit::Failed, "cannot restart", why);
        let own = self.origin.argv.first();
        let own = own.ok_or_else(|| failed(&"this process was started without a name"))?;
        let path = std::env::var_os("PATH");
        let program = program::find(own, &self.origin.dir, path.as_deref())
            .map_err(|error| failed(&format!("{}: {error}", own.to_string_lossy())))?;
        let launch = self.launch(program.as_os_str(), listeners);
        let launch = launch.map_err(|error| failed(&error))?;
        let numbered = listeners.iter().map(AsFd::as_fd).zip(FIRST_FD..);
        let fds: Vec<(BorrowedFd<'_>, RawFd)> = numbered.collect();
        let stdin = std::io::stdin();
        let plumbing = Plumbing {
            stdin: stdin.as_fd(),
            fds: &fds,
            guard: None,
            env: &[],
        };
        let master = i32::try_from(std::process::id()).unwrap_or(0);
        let spawned = spawn::spawn(&launch, &plumbing, master).map_err(|error| failed(&error))?;
        let (until, mut about) = (clock::now() + EXEC, false);
        loop {
            match spawn::read_outcome(spawned.outcome.as_fd(), &mut about) {
                SpawnOutcome::Executed => return Ok(spawned.pid),
                SpawnOutcome::Pending if clock::now() < until => {}
                // Slow, and yet on its way.
                SpawnOutcome::Pending => return Ok(spawned.pid),
                SpawnOutcome::Died => {
                    let _ = wait::reap_blocking(spawned.pid);
                    return Err(failed(&"its process has died"));
                }
                SpawnOutcome::Failed { step, errno } => {
                    let _ = wait::reap_blocking(spawned.pid);
                    let error = std::io::Error::from_raw_os_error(errno);
                    return Err(failed(&format!("{step}: {error}")));
                }
            }
            let ended = [(spawned.outcome.as_fd(), Interest::READ)];
            let mut poller = Poller::new();
            poller
                .wait(&ended, Some(until))
                .map_err(|error| failed(&error))?;
        }
    }

    fn launch(&self, program: &OsStr, listeners: &Listeners) -> std::io::Result<Launch> {
        let text = |text: &OsStr| Ok(CString::new(text.as_bytes())?);
        let names = listeners.iter().map(Listener::env_name).map(Some);
        let (count, names) = listen_env::render(names);
        let ours = [
            ("LISTEN_FDS", count),
            ("LISTEN_FDNAMES", names),
            (PREDECESSOR, std::process::id().to_string()),
        ];
        let mut own_pid_in = vec!["LISTEN_PID"];
        let is_watched = |name: &OsStr| name == "WATCHDOG_PID";
        let given = self.origin.environment.iter().filter(|(name, _)| {
            !tells_of_listeners(name) && name != PREDECESSOR && !is_watched(name)
        });
        let variable = |name: &OsStr, value: &OsStr| {
            let mut variable = OsString::from(name);
            variable.push("=");
            variable.push(value);
            text(&variable)
        };
        let given = given.map(|(name, value)| variable(name, value));
        let ours = ours
            .iter()
            .map(|(name, value)| variable(name.as_ref(), value.as_ref()));
        if self
            .origin
            .environment
            .iter()
            .any(|(name, _)| is_watched(name))
        {
            own_pid_in.push("WATCHDOG_PID");
        }
        let argv = self.origin.argv.iter().map(|word| text(word));
        Ok(Launch {
            program: text(program)?,
            argv: argv.collect::<std::io::Result<_>>()?,
            env: given.chain(ours).collect::<std::io::Result<_>>()?,
            own_pid_in,
            cwd: Some(text(self.origin.dir.as_os_str())?),
            leads: Leads::Nothing,
            death_signal: None,
            nofile: None,
        })
    }
}

impl AsFd for Restart {
    /// Readable once USR2 has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}

fn number(variable: &str) -> Option<i32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whether the process that a variable names is our parent: it may have been meant for somebody above us.
fn is_parent(variable: &str) -> bool {
    number(variable).is_some_and(parent::is_parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g8_a_restart_without_listeners_is_refused() {
        let restart = Restart::on_usr2().expect("made");
        let none: Listeners = std::iter::empty().collect();
        let error = restart.start(&none).expect_err("nothing to pass on");
        assert_eq!(error.exit, Exit::Refused);
        assert_eq!(
            error.to_string(),
            "cannot restart: there are no listeners to pass on"
        );
    }

    #[test]
    fn g6_the_same_arguments_directory_and_environment_with_the_count_replaced() {
        let origin = Origin {
            argv: vec!["./current/app".into(), "--verbose".into()],
            reexec: None,
            environment: [
                ("A", "b"),
                ("LISTEN_FDS", "7"),
                ("PF_PREDECESSOR", "1"),
                ("WATCHDOG_PID", "2"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
            dir: "/srv".into(),
            nofile: None,
        };
        let restart = Restart {
            origin,
            ..Restart::on_usr2().expect("made")
        };
        let listeners = Listeners::bind(["web=tcp:127.0.0.1:0", "tcp:127.0.0.1:0"]).expect("bound");
        let launch = restart
            .launch("/srv/one/app".as_ref(), &listeners)
            .expect("no NUL");
        let text = |all: &[CString]| -> Vec<String> {
            all.iter()
                .map(|one| one.to_string_lossy().into_owned())
                .collect()
        };
        let own = format!("PF_PREDECESSOR={}", std::process::id());
        let env = ["A=b", "LISTEN_FDS=2", "LISTEN_FDNAMES=web:unknown", &own];
        assert_eq!(text(&launch.env), env);
        assert_eq!(text(&launch.argv), ["./current/app", "--verbose"]);
        assert_eq!(
            text(&[launch.program, launch.cwd.expect("a directory")]),
            ["/srv/one/app", "/srv"]
        );
        assert_eq!(launch.own_pid_in, ["LISTEN_PID", "WATCHDOG_PID"]);
    }
}
