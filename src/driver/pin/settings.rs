//! What the operator asked for, as one value: a start, a take-over and a reload make it, and
//! everything that a new generation is made from follows from it.

use super::Recipe;
use crate::model::policy::Policy;
use crate::wire::address::ListenSpec;

/// The settings of the service, from the command line. Nothing else of the command line is needed
/// after the start, so a value made anew can take this one's place.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The number of slots, if it was given.
    pub workers: Option<usize>,
    /// What the model decides by.
    pub policy: Policy,
    /// What workers are started from.
    pub recipe: Recipe,
    /// The addresses of `--listen`.
    pub listen: Vec<ListenSpec>,
}

impl Settings {
    /// The addresses of `--listen` as text: an upgrade compares them with those of the new command
    /// line, since a socket that is bound already is not bound again.
    pub fn addresses(&self) -> Vec<String> {
        self.listen.iter().map(ToString::to_string).collect()
    }
}
