//! What the master says to the service manager above it, decided from what the supervisor looks like after each turn.
//!
//! The manager gets what is so, not what happened: a message that could not be sent is made up for by saying again what is so by then. Only
//! that a reload began is an event of its own, as it may be over within the turn, and a manager that asked for it by a signal waits to
//! hear of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::Generation;
use super::time::Time;

/// A line for people alone is not said sooner after another; what the manager acts upon is said at once.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// How long after a message that the manager had no room for it is tried again: from, doubling up to.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The shortest pace of keep-alives: nobody's loop is watched more closely.
const LEAST_PACE: Duration = Duration::from_millis(1);

/// The longest status line, in bytes.
const MAX_STATUS: usize = 512;

/// One thing to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say {
    /// The process to watch.
    MainPid(u32),
    /// The service is up, or its reload is over.
    Ready,
    /// A reload began at this moment of the monotonic clock.
    Reloading(Time),
    /// The service is going.
    Stopping,
    /// The loop is alive.
    Watchdog,
    /// How things are, for people, in one line.
    Status(String),
}

/// What the manager believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The service is starting.
    #[default]
    Starting,
    /// It is up.
    Ready,
    /// It reloads.
    Reloading,
    /// It is going.
    Stopping,
}

/// What has been said so far: plain, to be kept across an exec.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Said {
    /// The stage.
    pub stage: Stage,
    /// The pid, if it was said.
    pub main_pid: Option<u32>,
    /// The status line.
    pub status: String,
}

/// What there is to be said about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// How far the service is.
    pub stage: Stage,
    /// `starting`, `running`, `rolling`, `paused` or `stopping`.
    pub state: &'static str,
    /// The generation that serves.
    pub generation: Generation,
    /// The number of slots.
    pub wanted: usize,
    /// Slots whose worker is ready.
    pub ready: usize,
    /// Workers of any kind.
    pub workers: usize,
    /// The rollout under way: its kind, its generation, and how many of that are ready.
    pub rollout: Option<(&'static str, Generation, usize)>,
    /// Why the last rollout failed, or the service stops without having been asked to.
    pub trouble: Option<String>,
}

/// What there was before a message.
#[derive(Debug, Clone)]
struct Before {
    said: Said,
    begun: Option<Time>,
    beat_at: Option<Time>,
}

/// Decides what is to be said.
#[derive(Debug, Clone)]
pub struct Upward {
    pid: u32,
    said: Said,
    /// When a status line was said last.
    status_at: Option<Time>,
    /// A status line that waits for its time.
    status_due: Option<Time>,
    /// A reload that the manager has not been told of.
    begun: Option<Time>,
    /// What the last status line was made of.
    seen: Option<Facts>,
    /// What the last message may be taken back to.
    before: Option<Before>,
    pace: Option<Duration>,
    beat_at: Option<Time>,
    again: Option<(Time, Duration)>,
    silent: bool,
}

impl Upward {
    /// Nothing was said so far, or `said` was before an exec. `pid`: ours; `watchdog`: how long the manager bears silence.
    pub fn new(pid: u32, watchdog: Option<Duration>, said: Said, now: Time) -> Self {
        let pace = watchdog.map(|limit| (limit / 2).max(LEAST_PACE));
        Upward {
            pid,
            said,
            status_at: None,
            status_due: None,
            begun: None,
            seen: None,
            before: None,
            pace,
            // At once: nobody knows how much of the interval is over.
            beat_at: pace.map(|_| now),
            again: None,
            silent: false,
        }
    }

    /// What has been said.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// A reload begins now, and may be over before anybody looks.
    pub fn reload_begins(&mut self, now: Time) {
        self.begun = Some(now);
    }

    /// Another process is the service from now on: the last word of this one.
    pub fn hand_over(&mut self, pid: u32) -> Vec<Say> {
        self.silent = true;
        vec![Say::MainPid(pid)]
    }

    /// Everything is to be said once more: this process was not listened to so far, or is the service again.
    pub fn say_again(&mut self) {
        self.silent = false;
        self.said = Said::default();
        self.seen = None;
        self.status_at = None;
    }

    /// When to look though nothing happened.
    pub fn deadline(&self) -> Option<Time> {
        if self.silent {
            return None;
        }
        match self.again {
            Some((at, _)) => Some(at),
            None => [self.beat_at, self.status_due].into_iter().flatten().min(),
        }
    }

    /// The next message, to be sent as one. To be asked for until there is none, and after each of them told whether it was [`sent`](Self::sent) or
    /// [`lost`](Self::lost).
    pub fn next(&mut self, now: Time, facts: &Facts) -> Option<Vec<Say>> {
        if self.silent || self.again.is_some_and(|(at, _)| at > now) {
            return None;
        }
        let before = Before {
            said: self.said.clone(),
            begun: self.begun,
            beat_at: self.beat_at,
        };
        let mut say = Vec::new();
        if self.said.main_pid != Some(self.pid) {
            say.push(Say::MainPid(self.pid));
            self.said.main_pid = Some(self.pid);
        }
        say.extend(self.stage(now, facts.stage));
        say.extend(self.status(now, facts, !say.is_empty()));
        if let Some(pace) = self.pace
            && self.beat_at.is_some_and(|at| at <= now)
        {
            say.push(Say::Watchdog);
            self.beat_at = Some(now + pace);
        }
        if say.is_empty() {
            return None;
        }
        self.before = Some(before);
        Some(say)
    }

    /// The last message was sent.
    pub fn sent(&mut self) {
        self.before = None;
        self.again = None;
    }

    /// The last message could not be sent. `again`: there may be room for it later; what is so by then is said anew.
    pub fn lost(&mut self, now: Time, again: bool) {
        let before = self.before.take();
        let last = self.again.take();
        if let (true, Some(before)) = (again, before) {
            let (least, most) = TRY_AGAIN;
            let most = self.pace.map_or(most, |pace| pace.min(most));
            let wait = last.map_or(least, |(_, last)| last * 2).min(most);
            self.again = Some((now + wait, wait));
            self.said = before.said;
            self.begun = before.begun;
            self.beat_at = before.beat_at;
            self.seen = None;
        }
    }

    /// One word a message: a reload's beginning and its end in one would be read in any order.
    fn stage(&mut self, now: Time, stage: Stage) -> Option<Say> {
        let last = std::mem::replace(&mut self.said.stage, stage);
        match (stage, last) {
            (Stage::Stopping, _) => {
                self.begun = None;
                (last != stage).then_some(Say::Stopping)
            }
            // Nothing can be reloaded yet.
            (Stage::Starting, _) => {
                self.said.stage = last;
                None
            }
            // A reload that was asked for meanwhile comes after this.
            (Stage::Ready | Stage::Reloading, Stage::Starting) => {
                self.said.stage = Stage::Ready;
                Some(Say::Ready)
            }
            (Stage::Ready | Stage::Reloading, _) if self.begun.is_some() => {
                self.said.stage = Stage::Reloading;
                self.begun.take().map(Say::Reloading)
            }
            // Nobody said that it begins, and it is one all the same: the rollout of an upgrade.
            (Stage::Reloading, _) => (last != stage).then_some(Say::Reloading(now)),
            (Stage::Ready, _) => (last != stage).then_some(Say::Ready),
        }
    }

    fn status(&mut self, now: Time, facts: &Facts, at_once: bool) -> Option<Say> {
        if self.seen.as_ref() != Some(facts) || self.status_due.is_some() {
            self.seen = Some(facts.clone());
            self.status_due = None;
            let line = line(facts);
            if line == self.said.status {
                return None;
            }
            let due = self.status_at.map_or(now, |at| at + STATUS_EVERY);
            if !at_once && due > now {
                self.status_due = Some(due);
                return None;
            }
            self.status_at = Some(now);
            self.said.status.clone_from(&line);
            return Some(Say::Status(line));
        }
        None
    }
}

/// How things are, in one line.
fn line(facts: &Facts) -> String {
    let Facts {
        generation,
        wanted,
        ready,
        workers,
        ..
    } = facts;
    let mut line = match (facts.state, &facts.rollout) {
        ("stopping", _) => format!("stopping, {} left", super::text::workers(*workers)),
        ("paused", _) => "paused".to_owned(),
        (_, Some((kind, to, done))) => {
            format!("{kind}: {done} of {wanted} workers of generation {to} ready")
        }
        _ => format!("{ready} of {wanted} workers ready, generation {generation}"),
    };
    if let Some(trouble) = &facts.trouble {
        line.push_str("; ");
        line.push_str(trouble);
    }
    line.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .scan(0, |length, letter| {
            *length += letter.len_utf8();
            (*length <= MAX_STATUS).then_some(letter)
        })
        .collect()
}
