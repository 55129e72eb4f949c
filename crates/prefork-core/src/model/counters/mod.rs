//! Totals since the service was started, which never go down: they outlive workers, reloads and
//! both upgrades.
//!
//! During an upgrade by fork each of the two masters counts on from the same totals, and now and
//! then tells the other what it has counted itself. So whichever of them is the service in the end
//! knows all of it.

use std::time::Duration;

use crate::model::exit::Cause;

/// Totals since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Workers started.
    pub spawned: u64,
    /// Workers that became ready.
    pub readied: u64,
    /// Workers that ended without being asked to.
    pub died: u64,
    /// Workers that ended before, or soon after, they were ready.
    pub failed_starts: u64,
    /// Workers that had to be killed.
    pub killed: u64,
    /// Rollouts done.
    pub rollouts: u64,
    /// Rollouts rolled back.
    pub rolled_back: u64,
    /// Requests that workers have finished, those of dead workers included.
    pub requests: u64,
    /// Connections that workers have had, those of dead workers included.
    pub connections: u64,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
    /// How workers ended.
    pub exits: Exits,
}

/// How many workers ended for each cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exits([u64; Cause::ALL.len()]);

impl Exits {
    /// How many ended for this cause.
    pub fn of(&self, cause: Cause) -> u64 {
        let known = Cause::ALL.into_iter().zip(self.0);
        known
            .filter(|(known, _)| *known == cause)
            .map(|(_, count)| count)
            .sum()
    }

    /// Counts some that ended for this cause.
    pub fn add(&mut self, cause: Cause, more: u64) {
        for (known, count) in Cause::ALL.into_iter().zip(&mut self.0) {
            *count = count.saturating_add(if known == cause { more } else { 0 });
        }
    }
}

impl Counters {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Counters) -> Counters {
        self.zip(earlier, u64::saturating_sub)
    }

    /// With what was counted elsewhere.
    #[must_use]
    pub fn and(&self, more: &Counters) -> Counters {
        self.zip(more, u64::saturating_add)
    }

    /// The larger one of each.
    #[must_use]
    pub fn at_least(&self, other: &Counters) -> Counters {
        self.zip(other, u64::max)
    }

    fn zip(&self, other: &Counters, each: impl Fn(u64, u64) -> u64) -> Counters {
        let mut exits = self.exits;
        for (count, other) in exits.0.iter_mut().zip(other.exits.0) {
            *count = each(*count, other);
        }
        Counters {
            spawned: each(self.spawned, other.spawned),
            readied: each(self.readied, other.readied),
            died: each(self.died, other.died),
            failed_starts: each(self.failed_starts, other.failed_starts),
            killed: each(self.killed, other.killed),
            rollouts: each(self.rollouts, other.rollouts),
            rolled_back: each(self.rolled_back, other.rolled_back),
            requests: each(self.requests, other.requests),
            connections: each(self.connections, other.connections),
            log_lines_lost: each(self.log_lines_lost, other.log_lines_lost),
            exits,
        }
    }
}

/// What a worker has done: so far, or since that was last told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Requests that it has finished.
    pub requests: u64,
    /// Connections that it has had.
    pub connections: u64,
    /// Processor time of its process group.
    pub cpu: Duration,
}

impl Work {
    /// What is new since `earlier`. A number that went down tells of nothing new: a worker writes
    /// its numbers itself.
    #[must_use]
    pub fn since(&self, earlier: &Work) -> Work {
        Work {
            requests: self.requests.saturating_sub(earlier.requests),
            connections: self.connections.saturating_sub(earlier.connections),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }

    /// The larger one of each.
    #[must_use]
    pub fn at_least(&self, other: &Work) -> Work {
        Work {
            requests: self.requests.max(other.requests),
            connections: self.connections.max(other.connections),
            cpu: self.cpu.max(other.cpu),
        }
    }
}

/// What a slot keeps for good, through all workers that it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotTotals {
    /// How often its process died by itself.
    pub restarts: u64,
    /// Processor time of all its workers so far.
    pub cpu: Duration,
}

#[cfg(test)]
mod tests;
