//! The loop: waits, tells the decider what has happened, and does what it says.

use super::handlers::{End, Handlers, Taken};
use super::manager::Manager;
use super::setup::Setup;
use crate::error::{Error, Exit, Result, reason};
use crate::log::Log;
use crate::model::acceptor::{Acceptor, Action, ClientId, CloseReason, Event};
use crate::model::exit::ExitStatus;
use crate::model::log_throttle::LogThrottle;
use crate::model::signal::Signal;
use crate::sys::listener::shared_accept::{Connection, SharedListeners};
use crate::sys::machine::clock::now;
use crate::sys::process::spawn;
use crate::sys::signal::Signals;
use crate::wire::ucspi;

/// What may go wrong again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Complaint {
    NoConnection,
    NoProcess,
    NoProgram,
    TimedOut,
    Crashed,
}

struct Server {
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

/// Serves until the end.
pub(super) fn serve(setup: Setup) -> Result<Exit> {
    let mut server = Server {
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
    server.manager.beat(&server.log);
    server.manager.say("READY=1\nSTATUS=accepting", &server.log);
    loop {
        server.turn()?;
        if let Some(exit) = server.exit {
            server.tell_the_rest();
            return Ok(exit);
        }
    }
}

impl Server {
    fn turn(&mut self) -> Result<()> {
        let (wanted, deadline) = (self.acceptor.wants_connection(), self.acceptor.deadline());
        let come = self
            .listeners
            .wait(wanted, deadline)
            .map_err(|error| Error::system("cannot wait for connections", error))?;
        // Connections first: one of them may have woken us alone, so if we are told to stop at the same time, it is ours.
        for at in come.listeners {
            if self.acceptor.wants_connection() {
                self.take(at);
            }
        }
        if come.signals {
            self.hear();
        }
        self.step(Event::Tick);
        Ok(())
    }

    fn step(&mut self, event: Event) {
        for action in self.acceptor.step(now(), event) {
            self.perform(action);
        }
    }

    fn take(&mut self, at: usize) {
        match self.listeners.accept(at) {
            Ok(Some(connection)) => self.serve(connection),
            Ok(None) => {}
            Err(error) => {
                let what = format!("cannot accept on {}", self.listeners.label(at));
                self.complain(Complaint::NoConnection, &what, &reason(error));
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
            Taken {
                connection,
                counted,
            },
        );
    }

    /// Starts the handler of a client, or keeps the client until it can be. False: not now.
    fn start(&mut self, client: ClientId, taken: Taken) -> bool {
        let who = ucspi::client(&taken.connection.ends);
        match self.handlers.start(client, taken, now()) {
            Ok(pid) => {
                self.log.debug(format_args!("{who}: handler {pid} begins"));
                self.step(Event::HandlerStarted);
                true
            }
            Err(error) => {
                let what = format!("cannot start a handler for {who}");
                self.complain(Complaint::NoProcess, &what, &reason(&error));
                if spawn::may_pass(&error) {
                    self.step(Event::ResourcesShort);
                } else {
                    self.turned_away(client);
                }
                false
            }
        }
    }

    /// A client that had no handler gets none.
    fn turned_away(&mut self, client: ClientId) {
        let group_empty = true;
        self.step(Event::HandlerEnded {
            client,
            group_empty,
        });
    }

    /// Those that were kept, until there is too little again.
    fn resume(&mut self) {
        while let Some((client, taken)) = self.handlers.held() {
            if !self.start(client, taken) {
                break;
            }
        }
    }

    fn hear(&mut self) {
        for (signal, _) in self.signals.pending() {
            if signal != Signal::Chld {
                if signal == Signal::Hup && self.signals.was_ignored(signal) {
                    // nohup: it shall go on without its terminal.
                    continue;
                }
                self.step(Event::Signal(signal));
                continue;
            }
            for end in self.handlers.ended() {
                self.ended(&end);
                let (client, group_empty) = (end.client, end.alone);
                self.step(Event::HandlerEnded {
                    client,
                    group_empty,
                });
            }
            self.look();
        }
    }

    fn look(&mut self) {
        for client in self.handlers.gone() {
            self.step(Event::GroupEmptied(client));
        }
    }

    fn ended(&mut self, end: &End) {
        let (pid, who) = (end.pid, ucspi::client(&end.ends));
        if let Some((step, errno)) = end.not_started {
            let why = std::io::Error::from_raw_os_error(errno);
            let what = format!("handler {pid} for {who}: {step}");
            return self.complain(Complaint::NoProgram, &what, &reason(why));
        }
        let how = ExitStatus::from(end.how);
        // A client that has left is no fault of the handler's.
        let crashed =
            matches!(how, ExitStatus::Signaled(signal, _) if signal != Some(Signal::Pipe));
        if crashed && !end.told {
            let what = format!("handler {pid} for {who}");
            return self.complain(Complaint::Crashed, &what, &how.to_string());
        }
        let took = now().since(end.began);
        self.log.debug(format_args!(
            "{who}: handler {pid} {how} after {:.3}s",
            took.as_secs_f64()
        ));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Close(why) => self.close(why),
            Action::TimeOut(client) => {
                let what = self.handlers.describe(client);
                self.complain(Complaint::TimedOut, &what, "ended at --client-timeout");
                self.end(client);
            }
            Action::Terminate(client) => self.end(client),
            Action::Kill(client) => {
                self.handlers.kill(client);
                self.look();
            }
            Action::Resume => self.resume(),
            Action::LookForEmptyGroups => self.look(),
            Action::GiveUp(client) => {
                let what = self.handlers.describe(client);
                self.log
                    .error(format_args!("{what} cannot be killed, and is left"));
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

    fn end(&mut self, client: ClientId) {
        if self.handlers.turn_away(client) {
            self.turned_away(client);
        } else {
            self.handlers.end(client);
            // Nobody may have been there to be told.
            self.look();
        }
    }

    fn close(&mut self, why: CloseReason) {
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
        self.manager.say(
            &format!("STOPPING=1\nSTATUS=finishing, {} left", handlers(running)),
            &self.log,
        );
    }

    fn complain(&mut self, kind: Complaint, what: &str, why: &str) {
        match self.complaints.admit(now(), kind) {
            None => {}
            Some(0) => self.log.warn(format_args!("{what}: {why}")),
            Some(more) => self
                .log
                .warn(format_args!("{what}: {why} ({more} more like this before)")),
        }
    }

    fn tell_the_rest(&self) {
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
