//! What a drill has found: the document that `pf-ctl drill --json` prints.
//!
//! Durations are seconds, and a value that is unknown is `null`, as in the status document.

use serde::{Deserialize, Serialize};

use super::control::Failure;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drill {
    /// Nothing was lost but what the killed worker had accepted, and no step failed.
    pub ok: bool,
    /// In words: what was lost, of how many.
    pub verdict: String,
    /// Why the drill did not begin, or ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The request, in words.
    pub request: String,
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// Right answers in all steps.
    pub answers: u64,
    /// Requests that were lost, in all steps.
    pub lost: u64,
    /// Requests that the killed worker had accepted, and that were lost with it.
    pub excused: u64,
    /// The generation that served before.
    pub generation_before: Option<u64>,
    /// The generation that serves now.
    pub generation_after: Option<u64>,
    /// In what the service is not as before; pids, generation and counters aside.
    pub differs: Vec<String>,
}

impl Drill {
    /// Adds the steps up, and says what that means.
    pub fn conclude(&mut self) {
        let sum = |count: fn(&Step) -> u64| self.steps.iter().map(count).sum();
        self.answers = sum(|step| step.answers);
        self.lost = sum(|step| step.lost.all());
        self.excused = sum(|step| step.excused);
        let mut kinds = Lost::default();
        for step in &self.steps {
            kinds.refused += step.lost.refused;
            kinds.reset += step.lost.reset;
            kinds.empty += step.lost.empty;
            kinds.wrong += step.lost.wrong;
            kinds.slow += step.lost.slow;
        }
        let all = self.answers + self.lost + self.excused;
        self.verdict = format!("{} of {all} requests lost", self.lost);
        if self.lost > 0 {
            self.verdict += &format!(": {}", kinds.in_words());
        }
        if self.excused > 0 {
            let count = self.excused;
            self.verdict += &format!(", besides {count} that the killed worker had accepted");
        }
        let failed = self.steps.iter().find(|step| step.result == "failed");
        if let Some(failed) = failed {
            self.verdict += &format!("; {} failed", failed.label);
        }
        self.ok = self.lost == 0 && failed.is_none();
    }
}

/// A listener, and whether it was under load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The listener's name, if it has one.
    pub name: Option<String>,
    /// Its address.
    pub address: String,
    /// Whether it was under load.
    pub tried: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// What was done: `undisturbed`, `reload`, `restart-worker`, `scale`, `scale-back`, `upgrade`,
    /// `upgrade-fork` or `kill`.
    pub step: String,
    /// The same with its operands, as a person would type it.
    pub label: String,
    /// `done`, `failed`, `left-out`, or `not-tried` after one that failed.
    pub result: String,
    /// Why it failed or was left out.
    pub why: Option<String>,
    /// The operations.
    pub ops: Vec<String>,
    /// Seconds that the operations took.
    pub took_s: Option<f64>,
    /// Right answers.
    pub answers: u64,
    /// What was lost.
    pub lost: Lost,
    /// What the killed worker had accepted.
    pub excused: u64,
    /// Requests that were sent again, since a kept connection had just been closed.
    pub repeated: u64,
    /// Half of the answers took no longer.
    pub p50_s: Option<f64>,
    /// 99 of 100 answers took no longer.
    pub p99_s: Option<f64>,
    /// No answer took longer.
    pub max_s: Option<f64>,
    /// Whose doing the losses were.
    pub findings: Vec<Finding>,
    /// What the master warned of.
    pub warnings: Vec<String>,
}

/// Losses by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lost {
    /// No process listened.
    pub refused: u64,
    /// The connection was reset.
    pub reset: u64,
    /// The connection ended before a byte of the answer.
    pub empty: u64,
    /// The answer is another one, or ended before it was whole.
    pub wrong: u64,
    /// No whole answer in time.
    pub slow: u64,
}

impl Lost {
    /// Each kind with its word.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        [
            ("refused", self.refused),
            ("reset", self.reset),
            ("empty", self.empty),
            ("wrong", self.wrong),
            ("slow", self.slow),
        ]
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }

    /// In words, those that there are: `3 reset, 1 slow`.
    pub fn in_words(&self) -> String {
        let kinds = self.kinds().into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        words.join(", ")
    }
}

/// Losses of one kind, and whose doing they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// The kind of the losses.
    pub kind: String,
    /// `program`, `kernel` or `unknown`.
    pub whose: String,
    /// What it did, in words.
    pub why: String,
    /// What one of the clients saw, and of which listener.
    pub example: String,
}

#[cfg(test)]
mod tests;
