//! Finds shared variables again: an environment that was read from a document has a copy of its
//! own of what this process has already.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::sync::Arc;

use super::{Environment, Variable};

/// The variables that there are: those of one environment, and what else has been shared.
pub struct VariablePool<'a> {
    base: &'a Environment,
    /// Where each variable stands in the block of `base`.
    places: BTreeMap<&'a CStr, u32>,
    /// How many variables that block has.
    length: u32,
    others: BTreeSet<Arc<CStr>>,
}

impl<'a> VariablePool<'a> {
    /// A pool of the variables that `base` is made of, also of those that it leaves out.
    pub fn new(base: &'a Environment) -> Self {
        let variables = base.block.variables().map(Variable::text);
        let mut length = 0;
        let mut places = BTreeMap::new();
        for text in variables {
            places.insert(text, length);
            length += 1;
        }
        VariablePool {
            base,
            length,
            places,
            others: base.own.iter().map(Arc::clone).collect(),
        }
    }

    /// The same environment, made of the variables of the pool. Those that the pool does not have
    /// are added to it.
    pub fn share(&mut self, environment: &Environment) -> Environment {
        let mut is_used = vec![false; self.length as usize];
        let mut own = Vec::new();
        for text in environment.iter().map(Variable::text) {
            let place = self.places.get(text).map(|at| *at as usize);
            match place.and_then(|at| is_used.get_mut(at)) {
                Some(is_used) if !*is_used => *is_used = true,
                _ => own.push(self.other(text)),
            }
        }
        if !is_used.contains(&true) {
            return Environment {
                own,
                ..Environment::default()
            };
        }
        let left_out = (0..).zip(&is_used).filter(|(_, is_used)| !**is_used);
        Environment {
            block: Arc::clone(&self.base.block),
            left_out: left_out.map(|(at, _)| at).collect(),
            own,
        }
    }

    fn other(&mut self, text: &CStr) -> Arc<CStr> {
        if let Some(known) = self.others.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<CStr> = text.into();
        self.others.insert(Arc::clone(&new));
        new
    }
}
