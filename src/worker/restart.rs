//! Restart without a master: the program starts itself again, on the same listeners (G6 to G8).

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::listeners::{Listeners, is_listener_variable};
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

/// The variable with the pid of the process that started this one, and serves until this one does.
const PREDECESSOR: &str = "PF_PREDECESSOR";

/// The variable with the pid of the master of a worker. A worker is replaced by its master.
const MASTER: &str = "PF_MASTER_PID";

/// The variable with the pid that a watchdog watches; the new process gets its own there.
const WATCHED: &str = "WATCHDOG_PID";

/// How long the new process may take until it has executed the program.
const EXEC_WITHIN: Duration = Duration::from_secs(10);

/// Starts the program again beside this process, on the same listeners, so that a new release takes
/// over without losing a connection. The new process has the same arguments, directory and
/// environment. The path of the program is looked up anew, so a changed symlink is followed.
///
/// This process serves until the new process serves and sends it TERM. A new process that fails to
/// start changes nothing. The descriptor of this value is readable when USR2 has come.
///
/// ```no_run
/// # fn main() -> prefork::error::Result<()> {
/// # let handler = |_: &prefork::Connection| -> std::io::Result<()> { Ok(()) };
/// use prefork::{Listeners, Restart, Server};
///
/// let restart = Restart::on_usr2()?; // first in main: it remembers how this process was started
/// let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
/// Server::new().restart(restart).serve(listeners, handler)
/// # }
/// ```
///
/// A program with its own loop calls [`start`](Self::start) after USR2, and
/// [`take_over`](Self::take_over) once it serves.
#[derive(Debug)]
pub struct Restart {
    origin: Origin,
    asked: OwnedFd,
    /// The pid of the process that was started, until it is reaped.
    successor: Mutex<Option<i32>>,
}

impl Restart {
    /// Remembers how this process was started, and handles USR2. Call it first in `main`: later
    /// changes of the directory or the environment are not passed on.
    ///
    /// # Errors
    /// There is no working directory, or there are too many descriptors.
    pub fn on_usr2() -> Result<Restart> {
        let dir = program::start_dir(std::env::var_os("PWD").as_deref())
            .map_err(|error| Error::system("cannot find the working directory", error))?;
        let asked = shutdown::signal_pipe(Signal::Usr2)
            .map_err(|error| Error::system("cannot handle signals", error))?;
        Ok(Restart {
            origin: Origin::of_this_process(None, std::env::vars_os().collect(), dir),
            asked,
            successor: Mutex::new(None),
        })
    }

    /// Whether USR2 has come since the last call. Never waits; to wait, poll the descriptor.
    pub fn is_asked(&self) -> bool {
        shutdown::drain_signal_pipe(self.asked.as_fd())
    }

    /// Starts the program again on these listeners, which this process keeps too. Returns the pid.
    ///
    /// # Errors
    /// Nothing has changed. Exit 6: there are no listeners (G8), an earlier new process still runs,
    /// or this is a worker of `pf-master`. Exit 1: the program cannot be executed.
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
                "pid {pid}, which was started before, still runs"
            )));
        }
        let pid = self.spawn(listeners)?;
        *successor = Some(pid);
        Ok(pid.unsigned_abs())
    }

    /// Sends TERM to the process that started this one by [`start`](Self::start), if it still runs
    /// (G7), and `MAINPID=` to a service manager. Call it once this process serves. False: no
    /// process was there to take over from.
    ///
    /// # Errors
    /// The old process runs as another user.
    pub fn take_over() -> Result<bool> {
        let Some(pid) = number(PREDECESSOR) else {
            return Ok(false);
        };
        if parent::is_parent(pid) {
            // Before TERM: when the main process of a service exits, its manager ends the service.
            notify::main_pid(std::process::id())?;
        }
        parent::terminate_parent(pid)
            .map_err(|error| Error::system(format!("cannot take over from pid {pid}"), error))
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
        let (until, mut about) = (clock::now() + EXEC_WITHIN, false);
        loop {
            match spawn::read_outcome(spawned.outcome.as_fd(), &mut about) {
                SpawnOutcome::Executed => return Ok(spawned.pid),
                SpawnOutcome::Pending if clock::now() < until => {}
                // Slow, but not failed.
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
        let mut env = self.origin.environment.clone();
        if env.value(WATCHED).is_some() {
            own_pid_in.push(WATCHED);
        }
        env.retain(|name| !is_listener_variable(name) && name != PREDECESSOR && name != WATCHED);
        for (name, value) in ours {
            env.push(name, value)?;
        }
        let argv = self.origin.argv.iter().map(|word| text(word));
        Ok(Launch {
            program: text(program)?,
            argv: argv.collect::<std::io::Result<_>>()?,
            env,
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

/// Whether the pid in a variable is that of our parent. Otherwise the variable was inherited from
/// a process further up, for which it was meant.
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
    fn g6_only_the_listen_variables_change_in_a_restart() {
        let origin = Origin {
            argv: vec!["./current/app".into(), "--verbose".into()],
            reexec: None,
            environment: [
                ("A", "b"),
                ("LISTEN_FDS", "7"),
                ("PF_PREDECESSOR", "1"),
                ("WATCHDOG_PID", "2"),
            ]
            .into_iter()
            .collect(),
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
        let given: Vec<CString> = launch.env.iter().map(|it| it.text().into()).collect();
        let own = format!("PF_PREDECESSOR={}", std::process::id());
        let env = ["A=b", "LISTEN_FDS=2", "LISTEN_FDNAMES=web:unknown", &own];
        assert_eq!(text(&given), env);
        assert_eq!(text(&launch.argv), ["./current/app", "--verbose"]);
        assert_eq!(
            text(&[launch.program, launch.cwd.expect("a directory")]),
            ["/srv/one/app", "/srv"]
        );
        assert_eq!(launch.own_pid_in, ["LISTEN_PID", "WATCHDOG_PID"]);
    }
}
