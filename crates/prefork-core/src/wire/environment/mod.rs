//! The environment of a process, in a form that many owners share.
//!
//! A master has an environment many times: the one that it was started with, the one that workers
//! are started from, and that of each generation that can be gone back to. It may be megabytes
//! long, and all of these differ in a few variables. So they share one block of bytes, in which the
//! variables stand as execve(2) takes them; an [`Environment`] says which of them it leaves out,
//! and has a few of its own.
//!
//! - [`Environment`] and [`Variable`]: this file;
//! - `block`: the bytes that are shared;
//! - `pool`: [`VariablePool`], which finds the shared bytes again for what a document repeats;
//! - `document`: an environment in JSON.

mod block;
mod document;
mod pool;

use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use block::{Block, parts};
pub use pool::VariablePool;

/// One variable of an environment, `NAME=VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable<'a>(&'a CStr);

impl<'a> Variable<'a> {
    /// What stands before the `=`.
    pub fn name(self) -> &'a OsStr {
        OsStr::from_bytes(self.parts().0)
    }

    /// What stands after the `=`.
    pub fn value(self) -> &'a OsStr {
        OsStr::from_bytes(self.parts().1)
    }

    /// Name and value as an environment has them.
    pub fn text(self) -> &'a CStr {
        self.0
    }

    fn parts(self) -> (&'a [u8], &'a [u8]) {
        let text = self.0.to_bytes();
        parts(text).unwrap_or((text, b""))
    }
}

/// An environment. A clone of it shares all names and values.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    block: Arc<Block>,
    /// Which variables of the block are not in it, by their places there, in ascending order.
    left_out: Vec<u32>,
    /// The variables that follow those of the block.
    own: Vec<Arc<CStr>>,
}

impl Environment {
    /// Reads the form in which the kernel shows an environment (`/proc/PID/environ`): texts that
    /// end in a NUL byte. As everywhere, a text without a name and a `=` is no variable.
    pub fn parse(texts: &[u8]) -> Environment {
        let texts = texts.split(|byte| *byte == 0);
        texts.filter_map(parts).collect::<Block>().into()
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = Variable<'_>> {
        let shared = self.shared().map(|(_, variable)| variable);
        shared.chain(self.own.iter().map(|text| Variable(text)))
    }

    /// The value of the variable `name`.
    pub fn value(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        let name = name.as_ref();
        let mut all = self.iter();
        let found = all.find(|variable| variable.name() == name)?;
        Some(found.value())
    }

    /// The value of a variable that is a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.value(name)?.to_str()?.parse().ok()
    }

    /// Whether no variable is in it.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Leaves out the variables whose names `keep` does not accept.
    pub fn retain(&mut self, keep: impl Fn(&OsStr) -> bool) {
        let gone = |(_, variable): &(u32, Variable<'_>)| !keep(variable.name());
        let gone: Vec<u32> = self.shared().filter(gone).map(|(at, _)| at).collect();
        if !gone.is_empty() {
            self.left_out.extend(gone);
            self.left_out.sort_unstable();
        }
        self.own.retain(|text| keep(Variable(text).name()));
    }

    /// Adds a variable at the end, whether there is one of that name or not.
    ///
    /// # Errors
    /// A NUL byte: the name or the value holds one.
    pub fn push(
        &mut self,
        name: impl AsRef<OsStr>,
        value: impl AsRef<OsStr>,
    ) -> Result<(), NulError> {
        let mut text = OsString::from(name.as_ref());
        text.push("=");
        text.push(value);
        self.own
            .push(CString::new(text.into_encoded_bytes())?.into());
        Ok(())
    }

    /// This environment with the variables of `set`, which win; of several of one name the last
    /// counts.
    #[must_use]
    pub fn overruled_by(&self, set: &Environment) -> Environment {
        let mut all = self.clone();
        all.retain(|name| set.value(name).is_none());
        let block = set.shared().map(|(_, variable)| variable.text().into());
        let set: Vec<Arc<CStr>> = block.chain(set.own.iter().map(Arc::clone)).collect();
        for (at, text) in set.iter().enumerate() {
            let name = Variable(text).name();
            let mut later = set.iter().skip(at + 1);
            if !later.any(|later| Variable(later).name() == name) {
                all.own.push(Arc::clone(text));
            }
        }
        all
    }

    /// The variables of the block that are not left out, each with its place there.
    fn shared(&self) -> impl Iterator<Item = (u32, Variable<'_>)> {
        let mut left_out = self.left_out.iter().copied().peekable();
        let all = (0..).zip(self.block.variables());
        all.filter(move |(at, _)| left_out.next_if_eq(at).is_none())
    }
}

impl From<Block> for Environment {
    fn from(block: Block) -> Self {
        Environment {
            block: Arc::new(block),
            ..Environment::default()
        }
    }
}

/// Without the pairs that no environment can hold: those with a NUL byte, or without a name.
impl<N: AsRef<OsStr>, V: AsRef<OsStr>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut block = Block::default();
        for (name, value) in pairs {
            block.add(name.as_ref().as_bytes(), value.as_ref().as_bytes());
        }
        block.finished().into()
    }
}

/// Equal are environments with the same variables in the same order, wherever they are stored.
impl PartialEq for Environment {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Environment {}

#[cfg(test)]
mod tests;
