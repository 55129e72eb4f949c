//! What `pf-accept` decides, as a small pure machine of its own: events in, actions out.
//!
//! `pf-accept` runs it (`cmd::accept::serve`); it shares nothing with the supervisor. It decides
//! whether another connection is accepted, when a handler has run too long, and how the process
//! ends.
//!
//! A token is the right to run one handler: there are `--max-clients` of them (W2). A handler
//! gives its token back when its own process has ended. Other processes may be left in its group:
//! they keep the handler's deadline, and a graceful end waits for them as for a handler.
//!
//! Reading order: [`AcceptLimits`], [`Event`], [`Action`], [`Acceptor::step`]. Every end runs
//! through the same phases: serving, draining, terminating, killing, over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::signal::Signal;
use crate::model::time::Time;

/// From TERM to KILL, for a handler's group.
pub const TERM_TO_KILL: Duration = Duration::from_secs(1);

/// From KILL to the moment at which a handler that is still there is given up.
pub const KILL_TO_GIVE_UP: Duration = Duration::from_secs(5);

/// How often a draining acceptor looks for groups that have become empty. A process that leaves
/// its group by setsid(2) sends us no signal, so only looking shows that the group is empty.
const GROUP_CHECK: Duration = Duration::from_millis(100);

/// The same signal again within this time counts once: a service manager and a master may both
/// pass it on.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The first and the longest pause in accepting after a shortage; each further shortage doubles
/// the pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Names a connection and its handler; a number is never used twice.
pub type ClientId = u64;

/// What the command line asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptLimits {
    /// `--max-clients`: handlers at once, at least 1.
    pub clients: u32,
    /// `--max-requests`: connections until the end.
    pub max_requests: Option<u32>,
    /// `--client-timeout`: how long a handler may run.
    pub client_timeout: Option<Duration>,
    /// `--idle-timeout`: how long the process lives without a connection.
    pub idle_timeout: Option<Duration>,
    /// `--drain-timeout`: how long handlers may go on after a signal to finish.
    pub drain_timeout: Duration,
    /// How often to beat.
    pub beat: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted; its handler is started now, or as soon as that is possible.
    Accepted(ClientId),
    /// The handler's process has ended, or could not be started.
    HandlerEnded {
        /// Whose handler.
        client: ClientId,
        /// No other process is left in the handler's group.
        group_empty: bool,
    },
    /// The last process of a group is gone; the handler itself had ended before.
    GroupEmptied(ClientId),
    /// The system has too few descriptors, processes or memory: a connection could not be
    /// accepted, or an accepted one has no handler yet.
    ResourcesShort,
    /// A handler was started: resources suffice again.
    HandlerStarted,
    /// This process received a signal.
    Signal(Signal),
    /// Time has passed.
    Tick,
}

/// Why no more connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// A signal asked for the end.
    Signal(Signal),
    /// The last connection of `--max-requests` was accepted.
    MaxRequests,
    /// There was no connection for `--idle-timeout`.
    IdleTimeout,
}

/// What `pf-accept` is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Close the listeners, and say `STOPPING=1`.
    Close(CloseReason),
    /// `--client-timeout` has passed: send TERM to the handler's group, and log it.
    TimeOut(ClientId),
    /// Send TERM to the handler's group.
    Terminate(ClientId),
    /// Send KILL to the handler's group.
    Kill(ClientId),
    /// Try again to start the handlers of the connections that wait for one.
    Resume,
    /// Look at the groups whose handler has ended, and report those that are empty by now.
    LookForEmptyGroups,
    /// Wait no longer for this client's processes: KILL did not end them.
    GiveUp(ClientId),
    /// `--drain-timeout` has passed, and this many clients are left.
    DrainTimedOut(u32),
    /// Beat, and so show that this process is alive.
    Beat,
    /// End this process.
    Exit {
        /// The exit code is 0: `--drain-timeout` has not passed, and no handler was given up at
        /// the end.
        clean: bool,
    },
}

/// What a deadline is for. At most one deadline of each kind is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Beat,
    /// The pause after a shortage ends.
    Resume,
    CheckGroups,
    IdleTimeout,
    DrainTimeout,
    /// The next harder signal to one client's group.
    Client(ClientId),
    /// The next harder signal to all groups that are left.
    Escalate,
}

/// How far the process is on its way to the end; later phases are harder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AcceptPhase {
    Serving,
    Draining,
    Terminating,
    Killing,
    Over,
}

/// Which signal a handler's group was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupSignal {
    NoneYet,
    Term,
    Kill,
}

#[derive(Debug)]
struct HandlerState {
    is_running: bool,
    sent: GroupSignal,
}

/// The machine.
#[derive(Debug)]
pub struct Acceptor {
    limits: AcceptLimits,
    phase: AcceptPhase,
    /// Clients whose handler runs, or whose group has not been seen empty.
    handlers: BTreeMap<ClientId, HandlerState>,
    /// Handlers that run: the tokens in use.
    running: u32,
    accepted: u64,
    /// The next pause after a shortage.
    pause: Duration,
    clean: bool,
    last_signal: Option<(Signal, Time)>,
    /// The deadlines, the earliest first.
    deadlines: BTreeSet<(Time, Deadline)>,
    /// The same deadlines by kind.
    deadline_of: BTreeMap<Deadline, Time>,
}

impl Acceptor {
    /// A machine that serves, with all its tokens.
    pub fn new(limits: AcceptLimits, now: Time) -> Self {
        let mut new = Acceptor {
            limits,
            phase: AcceptPhase::Serving,
            handlers: BTreeMap::new(),
            running: 0,
            accepted: 0,
            pause: PAUSE.0,
            clean: true,
            last_signal: None,
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
        };
        if let Some(every) = limits.beat {
            new.set_deadline(Deadline::Beat, now + every);
        }
        new.start_idle_timeout(now);
        new
    }

    /// Whether to wait for a connection: there is a token for it, and no pause after a shortage.
    pub fn wants_connection(&self) -> bool {
        self.phase == AcceptPhase::Serving
            && self.running < self.limits.clients
            && !self.deadline_of.contains_key(&Deadline::Resume)
    }

    /// When to call [`step`](Self::step) next if nothing happens before.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many handlers run.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Takes one event, and returns what to do about it and about the deadlines that have passed.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == AcceptPhase::Over {
            return actions;
        }
        match event {
            Event::Accepted(client) => self.connection_accepted(now, client, &mut actions),
            Event::HandlerEnded {
                client,
                group_empty,
            } => self.handler_ended(client, group_empty, &mut actions),
            Event::GroupEmptied(client) => self.forget(client),
            Event::ResourcesShort => {
                self.set_deadline(Deadline::Resume, now + self.pause);
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
            Event::Signal(signal) => self.signal_received(now, signal, &mut actions),
            Event::HandlerStarted => self.pause = PAUSE.0,
            Event::Tick => {}
        }
        while let Some((at, what)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, what));
            self.deadline_of.remove(&what);
            self.deadline_passed(now, what, &mut actions);
        }
        self.settle(now, &mut actions);
        actions
    }

    /// What the state alone asks for, after any event.
    fn settle(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.phase == AcceptPhase::Serving && self.handlers.is_empty() {
            if !self.deadline_of.contains_key(&Deadline::IdleTimeout) {
                self.start_idle_timeout(now);
            }
        } else if self.handlers.is_empty() {
            self.phase = AcceptPhase::Over;
            self.deadlines.clear();
            self.deadline_of.clear();
            actions.push(Action::Exit { clean: self.clean });
        } else if self.phase != AcceptPhase::Serving
            && self.has_leftover_groups()
            && !self.deadline_of.contains_key(&Deadline::CheckGroups)
        {
            self.set_deadline(Deadline::CheckGroups, now + GROUP_CHECK);
        }
    }

    fn connection_accepted(&mut self, now: Time, client: ClientId, actions: &mut Vec<Action>) {
        self.running = self.running.saturating_add(1);
        self.accepted = self.accepted.saturating_add(1);
        self.clear_deadline(Deadline::IdleTimeout);
        let handler = HandlerState {
            is_running: true,
            sent: GroupSignal::NoneYet,
        };
        self.handlers.insert(client, handler);
        if let Some(limit) = self.limits.client_timeout {
            self.set_deadline(Deadline::Client(client), now + limit);
        }
        let last = self.limits.max_requests.map(u64::from);
        if self.phase == AcceptPhase::Serving && last.is_some_and(|last| self.accepted >= last) {
            self.start_drain(CloseReason::MaxRequests, actions);
        }
    }

    fn handler_ended(&mut self, client: ClientId, group_empty: bool, actions: &mut Vec<Action>) {
        let known = self.handlers.get_mut(&client);
        let Some(handler) = known.filter(|known| known.is_running) else {
            return;
        };
        handler.is_running = false;
        self.running = self.running.saturating_sub(1);
        if group_empty {
            self.forget(client);
        }
        // The handler freed a process and descriptors: these may be what was short.
        if self.clear_deadline(Deadline::Resume) {
            self.pause = PAUSE.0;
            actions.push(Action::Resume);
        }
    }

    fn forget(&mut self, client: ClientId) {
        if let Some(handler) = self.handlers.remove(&client)
            && handler.is_running
        {
            self.running = self.running.saturating_sub(1);
        }
        self.clear_deadline(Deadline::Client(client));
    }

    fn signal_received(&mut self, now: Time, signal: Signal, actions: &mut Vec<Action>) {
        let asks_for_end = [Signal::Int, Signal::Term, Signal::Quit, Signal::Hup];
        if !asks_for_end.contains(&signal) {
            return;
        }
        let before = self.last_signal.replace((signal, now));
        if before.is_some_and(|(last, at)| last == signal && now.since(at) < SAME_SIGNAL) {
            return;
        }
        let is_second = before.is_some();
        if self.phase == AcceptPhase::Serving {
            self.start_drain(CloseReason::Signal(signal), actions);
        }
        match self.phase {
            AcceptPhase::Draining if signal == Signal::Int || is_second => {
                self.terminate_all(now, actions);
            }
            AcceptPhase::Draining => {
                self.set_deadline(Deadline::DrainTimeout, now + self.limits.drain_timeout);
            }
            AcceptPhase::Terminating => self.kill_all(now, actions),
            AcceptPhase::Serving | AcceptPhase::Killing | AcceptPhase::Over => {}
        }
    }

    /// From here on no connection is accepted.
    fn start_drain(&mut self, why: CloseReason, actions: &mut Vec<Action>) {
        self.phase = AcceptPhase::Draining;
        self.clear_deadline(Deadline::IdleTimeout);
        actions.push(Action::Close(why));
    }

    fn terminate_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.phase = AcceptPhase::Terminating;
        self.clear_deadline(Deadline::DrainTimeout);
        for (client, handler) in &mut self.handlers {
            if handler.sent == GroupSignal::NoneYet {
                handler.sent = GroupSignal::Term;
                actions.push(Action::Terminate(*client));
            }
        }
        // From here on one deadline is for all groups.
        self.clear_client_deadlines();
        self.set_deadline(Deadline::Escalate, now + TERM_TO_KILL);
    }

    fn kill_all(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.phase = AcceptPhase::Killing;
        actions.extend(self.handlers.keys().map(|client| Action::Kill(*client)));
        self.set_deadline(Deadline::Escalate, now + KILL_TO_GIVE_UP);
    }

    fn deadline_passed(&mut self, now: Time, what: Deadline, actions: &mut Vec<Action>) {
        match what {
            Deadline::Beat => {
                actions.push(Action::Beat);
                if let Some(every) = self.limits.beat {
                    self.set_deadline(Deadline::Beat, now + every);
                }
            }
            Deadline::Resume => actions.push(Action::Resume),
            Deadline::CheckGroups => actions.push(Action::LookForEmptyGroups),
            Deadline::IdleTimeout => self.start_drain(CloseReason::IdleTimeout, actions),
            Deadline::DrainTimeout => {
                self.clean = false;
                let left = u32::try_from(self.handlers.len()).unwrap_or(u32::MAX);
                actions.push(Action::DrainTimedOut(left));
                self.terminate_all(now, actions);
            }
            Deadline::Client(client) => self.escalate_client(now, client, actions),
            Deadline::Escalate if self.phase == AcceptPhase::Terminating => {
                self.kill_all(now, actions);
            }
            Deadline::Escalate => {
                self.clean = false;
                let left = std::mem::take(&mut self.handlers);
                self.running = 0;
                actions.extend(left.into_keys().map(Action::GiveUp));
            }
        }
    }

    /// One client is over its time: TERM, then KILL, then it is given up.
    fn escalate_client(&mut self, now: Time, client: ClientId, actions: &mut Vec<Action>) {
        let Some(handler) = self.handlers.get_mut(&client) else {
            return;
        };
        let (sent, action, wait) = match handler.sent {
            GroupSignal::NoneYet => (GroupSignal::Term, Action::TimeOut(client), TERM_TO_KILL),
            GroupSignal::Term => (GroupSignal::Kill, Action::Kill(client), KILL_TO_GIVE_UP),
            GroupSignal::Kill => {
                actions.push(Action::GiveUp(client));
                return self.forget(client);
            }
        };
        handler.sent = sent;
        actions.push(action);
        self.set_deadline(Deadline::Client(client), now + wait);
    }

    /// Whether a group is left whose handler has ended.
    fn has_leftover_groups(&self) -> bool {
        u32::try_from(self.handlers.len()).is_ok_and(|known| known > self.running)
    }

    fn start_idle_timeout(&mut self, now: Time) {
        if let Some(limit) = self.limits.idle_timeout {
            self.set_deadline(Deadline::IdleTimeout, now + limit);
        }
    }

    fn set_deadline(&mut self, what: Deadline, at: Time) {
        self.clear_deadline(what);
        self.deadline_of.insert(what, at);
        self.deadlines.insert((at, what));
    }

    /// Clears a deadline; returns whether it was set.
    fn clear_deadline(&mut self, what: Deadline) -> bool {
        let at = self.deadline_of.remove(&what);
        at.is_some_and(|at| self.deadlines.remove(&(at, what)))
    }

    fn clear_client_deadlines(&mut self) {
        let is_client = |what: &Deadline| matches!(what, Deadline::Client(_));
        self.deadline_of.retain(|what, _| !is_client(what));
        self.deadlines.retain(|(_, what)| !is_client(what));
    }
}

#[cfg(test)]
mod tests;
