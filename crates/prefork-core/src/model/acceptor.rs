//! What `pf-accept` decides: whether it takes another connection, when a handler has had its time, and how the end comes.
//!
//! Tokens bound the handlers that run at once (W2); a handler gives its token back when its own process has ended. What it leaves behind in
//! its process group keeps the handler's deadline, and holds up a graceful end like a handler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::signal::Signal;
use super::time::Time;

/// How long after TERM a handler's group gets KILL.
pub const GRACE: Duration = Duration::from_secs(1);

/// How long after KILL a handler that is still there is given up.
pub const UNKILLABLE: Duration = Duration::from_secs(5);

/// How often, towards the end, it is looked whether what handlers have left behind is gone: who makes a session of its own leaves without a word.
const LOOK: Duration = Duration::from_millis(100);

/// The same signal within this counts once: a service manager and a master may both pass it on.
const SAME: Duration = Duration::from_secs(1);

/// How long nothing is accepted after something was short: from this, doubled, to that.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A connection and its handler, by a number of its own that is never used twice.
pub type Client = u64;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Handlers at once; at least 1.
    pub clients: u32,
    /// Connections until the end.
    pub max_requests: Option<u32>,
    /// How long a handler may take.
    pub client_timeout: Option<Duration>,
    /// How long there may be no connection.
    pub idle_timeout: Option<Duration>,
    /// How long handlers may go on after a word to finish.
    pub drain_timeout: Duration,
    /// How often to beat.
    pub beat: Option<Duration>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A connection was accepted; its handler starts now, or as soon as it can.
    Accepted(Client),
    /// The handler's process has ended, or could not be started.
    Ended {
        /// Whose.
        client: Client,
        /// Whether nobody is left in its group.
        alone: bool,
    },
    /// The last process of a group whose handler had ended is gone.
    Gone(Client),
    /// The system is short of descriptors, processes or memory: nothing was accepted, or what was has no handler yet.
    Short,
    /// A handler was started: there is enough of everything.
    Plenty,
    /// A signal came.
    Signal(Signal),
    /// Time has passed.
    Tick,
}

/// Why no more is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// We were told to.
    Asked(Signal),
    /// It was the last connection of `--max-requests`.
    Requests,
    /// There was no connection for `--idle-timeout`.
    Idle,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Give up the listeners, and say so.
    Close(Why),
    /// Tell the handler's group to end: its time is over.
    TimeOut(Client),
    /// Tell the handler's group to end.
    End(Client),
    /// Kill the handler's group.
    Kill(Client),
    /// Try again what there was too little of.
    Resume,
    /// Tell of those whose handler has ended and whose group is empty by now.
    Look,
    /// Wait no longer for this one: it cannot be killed.
    GiveUp(Client),
    /// The time for draining is over with so many left.
    Late(u32),
    /// Show that we live.
    Beat,
    /// End; whether all went as it should.
    Leave {
        /// No limit has passed, and nobody was given up.
        well: bool,
    },
}

/// What comes with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Beat,
    Resume,
    Look,
    Idle,
    Drained,
    Client(Client),
    /// The next harder word to all that are left.
    Harder,
}

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Ending,
    Killing,
    Left,
}

/// How a handler that has had its time is treated next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Within,
    Told,
    Killed,
}

#[derive(Debug)]
struct Handler {
    runs: bool,
    stage: Stage,
}

/// The decider.
#[derive(Debug)]
pub struct Accepting {
    terms: Terms,
    phase: Phase,
    handlers: BTreeMap<Client, Handler>,
    running: u32,
    begun: u64,
    pause: Duration,
    well: bool,
    last_signal: Option<(Signal, Time)>,
    due: BTreeSet<(Time, Due)>,
    at: BTreeMap<Due, Time>,
}

impl Accepting {
    /// At the start, with all tokens.
    pub fn new(terms: Terms, now: Time) -> Self {
        let mut new = Accepting {
            terms,
            phase: Phase::Serving,
            handlers: BTreeMap::new(),
            running: 0,
            begun: 0,
            pause: PAUSE.0,
            well: true,
            last_signal: None,
            due: BTreeSet::new(),
            at: BTreeMap::new(),
        };
        if let Some(every) = terms.beat {
            new.set(Due::Beat, now + every);
        }
        new.idle_from(now);
        new
    }

    /// Whether a connection is wanted: there is a token for it.
    pub fn wants(&self) -> bool {
        self.phase == Phase::Serving
            && self.running < self.terms.clients
            && !self.at.contains_key(&Due::Resume)
    }

    /// When to call [`step`](Self::step) though nothing happened.
    pub fn deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Handlers that run.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// What follows from an event.
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Left {
            return actions;
        }
        match event {
            Event::Accepted(client) => self.accepted(now, client, &mut actions),
            Event::Ended { client, alone } => self.ended(client, alone, &mut actions),
            Event::Gone(client) => self.forget(client),
            Event::Short => {
                self.set(Due::Resume, now + self.pause);
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
            Event::Signal(signal) => self.signal(now, signal, &mut actions),
            Event::Plenty => self.pause = PAUSE.0,
            Event::Tick => {}
        }
        while let Some((at, due)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, due));
            self.at.remove(&due);
            self.has_come(now, due, &mut actions);
        }
        if self.phase == Phase::Serving && self.handlers.is_empty() {
            if !self.at.contains_key(&Due::Idle) {
                self.idle_from(now);
            }
        } else if self.handlers.is_empty() {
            self.phase = Phase::Left;
            self.due.clear();
            self.at.clear();
            actions.push(Action::Leave { well: self.well });
        } else if self.phase != Phase::Serving
            && self.some_left_others()
            && !self.at.contains_key(&Due::Look)
        {
            self.set(Due::Look, now + LOOK);
        }
        actions
    }

    fn accepted(&mut self, now: Time, client: Client, actions: &mut Vec<Action>) {
        self.running = self.running.saturating_add(1);
        self.begun = self.begun.saturating_add(1);
        self.clear(Due::Idle);
        let (runs, stage) = (true, Stage::Within);
        self.handlers.insert(client, Handler { runs, stage });
        if let Some(limit) = self.terms.client_timeout {
            self.set(Due::Client(client), now + limit);
        }
        let last = self.terms.max_requests.map(u64::from);
        if self.phase == Phase::Serving && last.is_some_and(|last| self.begun >= last) {
            self.drain(Why::Requests, actions);
        }
    }

    fn ended(&mut self, client: Client, alone: bool, actions: &mut Vec<Action>) {
        let Some(handler) = self.handlers.get_mut(&client).filter(|known| known.runs) else {
            return;
        };
        handler.runs = false;
        self.running = self.running.saturating_sub(1);
        if alone {
            self.forget(client);
        }
        // It gave back what there may have been too little of.
        if self.clear(Due::Resume) {
            self.pause = PAUSE.0;
            actions.push(Action::Resume);
        }
    }

    fn forget(&mut self, client: Client) {
        if let Some(handler) = self.handlers.remove(&client)
            && handler.runs
        {
            self.running = self.running.saturating_sub(1);
        }
        self.clear(Due::Client(client));
    }

    fn signal(&mut self, now: Time, signal: Signal, actions: &mut Vec<Action>) {
        let now_or_soon = [Signal::Int, Signal::Term, Signal::Quit, Signal::Hup];
        if !now_or_soon.contains(&signal) {
            return;
        }
        let before = self.last_signal.replace((signal, now));
        if before.is_some_and(|(last, at)| last == signal && now.since(at) < SAME) {
            return;
        }
        let told_before = before.is_some();
        if self.phase == Phase::Serving {
            self.drain(Why::Asked(signal), actions);
        }
        match self.phase {
            Phase::Draining if signal == Signal::Int || told_before => self.end(now, actions),
            Phase::Draining => self.set(Due::Drained, now + self.terms.drain_timeout),
            Phase::Ending => self.kill(now, actions),
            Phase::Serving | Phase::Killing | Phase::Left => {}
        }
    }

    /// No more is accepted.
    fn drain(&mut self, why: Why, actions: &mut Vec<Action>) {
        self.phase = Phase::Draining;
        self.clear(Due::Idle);
        actions.push(Action::Close(why));
    }

    fn end(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.phase = Phase::Ending;
        self.clear(Due::Drained);
        for (client, handler) in &mut self.handlers {
            if handler.stage == Stage::Within {
                handler.stage = Stage::Told;
                actions.push(Action::End(*client));
            }
        }
        self.clear_clients();
        self.set(Due::Harder, now + GRACE);
    }

    fn kill(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.phase = Phase::Killing;
        actions.extend(self.handlers.keys().map(|client| Action::Kill(*client)));
        self.set(Due::Harder, now + UNKILLABLE);
    }

    fn has_come(&mut self, now: Time, due: Due, actions: &mut Vec<Action>) {
        match due {
            Due::Beat => {
                actions.push(Action::Beat);
                if let Some(every) = self.terms.beat {
                    self.set(Due::Beat, now + every);
                }
            }
            Due::Resume => actions.push(Action::Resume),
            Due::Look => actions.push(Action::Look),
            Due::Idle => self.drain(Why::Idle, actions),
            Due::Drained => {
                self.well = false;
                let left = u32::try_from(self.handlers.len()).unwrap_or(u32::MAX);
                actions.push(Action::Late(left));
                self.end(now, actions);
            }
            Due::Client(client) => self.client_has_had_its_time(now, client, actions),
            Due::Harder if self.phase == Phase::Ending => self.kill(now, actions),
            Due::Harder => {
                self.well = false;
                let left = std::mem::take(&mut self.handlers);
                self.running = 0;
                actions.extend(left.into_keys().map(Action::GiveUp));
            }
        }
    }

    fn client_has_had_its_time(&mut self, now: Time, client: Client, actions: &mut Vec<Action>) {
        let Some(handler) = self.handlers.get_mut(&client) else {
            return;
        };
        let (stage, action, wait) = match handler.stage {
            Stage::Within => (Stage::Told, Action::TimeOut(client), GRACE),
            Stage::Told => (Stage::Killed, Action::Kill(client), UNKILLABLE),
            Stage::Killed => {
                actions.push(Action::GiveUp(client));
                return self.forget(client);
            }
        };
        handler.stage = stage;
        actions.push(action);
        self.set(Due::Client(client), now + wait);
    }

    fn some_left_others(&self) -> bool {
        u32::try_from(self.handlers.len()).is_ok_and(|known| known > self.running)
    }

    fn idle_from(&mut self, now: Time) {
        if let Some(limit) = self.terms.idle_timeout {
            self.set(Due::Idle, now + limit);
        }
    }

    fn set(&mut self, due: Due, at: Time) {
        self.clear(due);
        self.at.insert(due, at);
        self.due.insert((at, due));
    }

    /// Whether there was one.
    fn clear(&mut self, due: Due) -> bool {
        let at = self.at.remove(&due);
        at.is_some_and(|at| self.due.remove(&(at, due)))
    }

    fn clear_clients(&mut self) {
        let client = |due: &Due| matches!(due, Due::Client(_));
        self.at.retain(|due, _| !client(due));
        self.due.retain(|(_, due)| !client(due));
    }
}

#[cfg(test)]
mod tests;
