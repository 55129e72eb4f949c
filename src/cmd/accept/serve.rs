//! The loop: waits for connections and signals, gives events to [`Acceptor`], performs its
//! actions.

use super::handlers::{CountedConnection, HandlerExit, Handlers};
use super::manager::Manager;
use super::setup::Setup;
use crate::error::{Error, Exit, Result, reason};
use crate::log::Log;
use crate::model::exit::ExitStatus;
use crate::model::machines::acceptor::{Acceptor, Action, ClientId, CloseReason, Event};
use crate::model::machines::log_throttle::LogThrottle;
use crate::model::signal::Signal;
use crate::sys::listener::shared_accept::{Connection, SharedListeners};
use crate::sys::machine::clock::now;
use crate::sys::process::spawn;
use crate::sys::signal::Signals;
use crate::wire::ucspi;

/// Warnings that may come very often, and are throttled by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Complaint {
    NoConnection,
    NoProcess,
    NoProgram,
    TimedOut,
    Crashed,
}

struct AcceptLoop {
    log: Log,
    signals: Signals,
    listeners: SharedListeners,
    handlers: Handlers,
    manager: Manager,
    acceptor: Acceptor,
    complaints: LogThrottle<Complaint>,
    next: ClientId,
    exit: Option<Exit>,
}

/// Serves until a signal, `--max-requests` or `--idle-timeout` ends it.
pub(super) fn serve(setup: Setup) -> Result<Exit> {
    let mut accept_loop = AcceptLoop {
        log: setup.log,
        signals: setup.signals,
        listeners: setup.listeners,
        handlers: setup.handlers,
        manager: setup.manager,
        acceptor: setup.acceptor,
        complaints: LogThrottle::default(),
        next: 0,
        exit: None,
    };
    accept_loop.manager.beat(&accept_loop.log);
    accept_loop
        .manager
        .notify("READY=1\nSTATUS=accepting", &accept_loop.log);
    loop {
        accept_loop.run_once()?;
        if let Some(exit) = accept_loop.exit {
            accept_loop.log_suppressed();
            return Ok(exit);
        }
    }
}

impl AcceptLoop {
    fn run_once(&mut self) -> Result<()> {
        let (wanted, deadline) = (self.acceptor.wants_connection(), self.acceptor.deadline());
        let come = self
            .listeners
            .wait(wanted, deadline)
            .map_err(|error| Error::system("cannot wait for connections", error))?;
        // Connections before signals: the kernel may have woken only this worker for a connection,
        // so this worker accepts it even if it is told to stop at the same time.
        for at in come.listeners {
            if self.acceptor.wants_connection() {
                self.accept_from(at);
            }
        }
        if come.signals {
            self.handle_signals();
        }
        self.step(Event::Tick);
        Ok(())
    }

    fn step(&mut self, event: Event) {
        for action in self.acceptor.step(now(), event) {
            self.perform(action);
        }
    }

    fn accept_from(&mut self, at: usize) {
        match self.listeners.accept(at) {
            Ok(Some(connection)) => self.serve(connection),
            Ok(None) => {}
            Err(error) => {
                let what = format!("cannot accept on {}", self.listeners.label(at));
                self.warn_throttled(Complaint::NoConnection, &what, &reason(error));
                self.step(Event::ResourcesShort);
            }
        }
    }

    fn serve(&mut self, connection: Connection) {
        let client = self.next;
        self.next += 1;
        let counted = self.manager.count();
        self.step(Event::Accepted(client));
        self.start(
            client,
            CountedConnection {
                connection,
                counted,
            },
        );
    }

    /// Starts the handler of a client. False: it could not be started. If a resource is short, the
    /// client waits for `resume`.
    fn start(&mut self, client: ClientId, taken: CountedConnection) -> bool {
        let who = ucspi::client(&taken.connection.ends);
        match self.handlers.start(client, taken, now()) {
            Ok(pid) => {
                self.log.debug(format_args!("{who}: handler {pid} begins"));
                self.step(Event::HandlerStarted);
                true
            }
            Err(error) => {
                let what = format!("cannot start a handler for {who}");
                self.warn_throttled(Complaint::NoProcess, &what, &reason(&error));
                if spawn::may_pass(&error) {
                    self.step(Event::ResourcesShort);
                } else {
                    self.report_no_handler(client);
                }
                false
            }
        }
    }

    /// Reports that a client gets no handler: its connection is closed.
    fn report_no_handler(&mut self, client: ClientId) {
        let group_empty = true;
        self.step(Event::HandlerEnded {
            client,
            group_empty,
        });
    }

    /// Starts handlers for the clients that wait, until a resource is short again.
    fn resume(&mut self) {
        while let Some((client, taken)) = self.handlers.pop_waiting() {
            if !self.start(client, taken) {
                break;
            }
        }
    }

    fn handle_signals(&mut self) {
        for (signal, _) in self.signals.pending() {
            if signal != Signal::Chld {
                if signal == Signal::Hup && self.signals.was_ignored(signal) {
                    // Started by nohup(1): a hangup of the terminal must not end it.
                    continue;
                }
                self.step(Event::Signal(signal));
                continue;
            }
            for exit in self.handlers.reap() {
                self.log_exit(&exit);
                let (client, group_empty) = (exit.client, exit.alone);
                self.step(Event::HandlerEnded {
                    client,
                    group_empty,
                });
            }
            self.report_empty_groups();
        }
    }

    fn report_empty_groups(&mut self) {
        for client in self.handlers.forget_empty_groups() {
            self.step(Event::GroupEmptied(client));
        }
    }

    fn log_exit(&mut self, exit: &HandlerExit) {
        let (pid, who) = (exit.pid, ucspi::client(&exit.ends));
        if let Some((stage, errno)) = exit.not_started {
            let why = std::io::Error::from_raw_os_error(errno);
            let what = format!("handler {pid} for {who}: {stage}");
            return self.warn_throttled(Complaint::NoProgram, &what, &reason(why));
        }
        let how = ExitStatus::from(exit.how);
        // PIPE means that the client has closed the connection, which is no crash.
        let crashed =
            matches!(how, ExitStatus::Signaled(signal, _) if signal != Some(Signal::Pipe));
        if crashed && !exit.told_to_exit {
            let what = format!("handler {pid} for {who}");
            return self.warn_throttled(Complaint::Crashed, &what, &how.to_string());
        }
        let took = now().since(exit.began);
        self.log.debug(format_args!(
            "{who}: handler {pid} {how} after {:.3}s",
            took.as_secs_f64()
        ));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Close(why) => self.stop_accepting(why),
            Action::TimeOut(client) => {
                let what = self.handlers.describe(client);
                self.warn_throttled(Complaint::TimedOut, &what, "ended at --client-timeout");
                self.end_client(client);
            }
            Action::Terminate(client) => self.end_client(client),
            Action::Kill(client) => {
                self.handlers.kill(client);
                self.report_empty_groups();
            }
            Action::Resume => self.resume(),
            Action::LookForEmptyGroups => self.report_empty_groups(),
            Action::GiveUp(client) => {
                let what = self.handlers.describe(client);
                self.log
                    .error(format_args!("{what} cannot be killed and stays"));
                self.handlers.forget(client);
            }
            Action::DrainTimedOut(left) => self.log.error(format_args!(
                "{} not finished at --drain-timeout: ended",
                handlers(left)
            )),
            Action::Beat => self.manager.beat(&self.log),
            Action::Exit { clean } => {
                self.exit = Some(if clean { Exit::Done } else { Exit::Failed });
            }
        }
    }

    fn end_client(&mut self, client: ClientId) {
        if self.handlers.close_waiting(client) {
            self.report_no_handler(client);
        } else {
            self.handlers.request_exit(client);
            // The group may have been empty already.
            self.report_empty_groups();
        }
    }

    fn stop_accepting(&mut self, why: CloseReason) {
        self.listeners.close();
        let running = self.acceptor.running();
        let why = match why {
            CloseReason::Signal(signal) => signal.to_string(),
            CloseReason::MaxRequests => "--max-requests".to_owned(),
            CloseReason::IdleTimeout => "--idle-timeout".to_owned(),
        };
        self.log.info(format_args!(
            "{why}: accepting no more, {} left",
            handlers(running)
        ));
        self.manager.notify(
            &format!("STOPPING=1\nSTATUS=finishing, {} left", handlers(running)),
            &self.log,
        );
    }

    fn warn_throttled(&mut self, kind: Complaint, what: &str, why: &str) {
        match self.complaints.admit(now(), kind) {
            None => {}
            Some(0) => self.log.warn(format_args!("{what}: {why}")),
            Some(more) => self
                .log
                .warn(format_args!("{what}: {why} ({more} more like this before)")),
        }
    }

    fn log_suppressed(&self) {
        for (kind, count) in self.complaints.suppressed() {
            let what = match kind {
                Complaint::NoConnection => "could not accept",
                Complaint::NoProcess | Complaint::NoProgram => "could not start a handler",
                Complaint::TimedOut => "handler ended at --client-timeout",
                Complaint::Crashed => "handler killed by a signal",
            };
            self.log.warn(format_args!("{what}: {count} more times"));
        }
    }
}

fn handlers(count: u32) -> String {
    match count {
        1 => "1 handler".to_owned(),
        count => format!("{count} handlers"),
    }
}
