//! The bytes that environments share.

use std::ffi::CStr;

use super::Variable;

/// Variables, each of them text that ends in a NUL byte, one after the other.
///
/// One allocation for all: as allocations of their own, short variables would take twice their
/// length, and leave holes when they are freed.
#[derive(Debug, Default)]
pub(super) struct Block(Vec<u8>);

impl Block {
    /// All variables, in order.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let text = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(text.to_bytes_with_nul().len()..)?;
            Some(Variable(text))
        })
    }

    /// Adds a variable. Returns whether that was possible: the name is not empty, and there is no
    /// NUL byte.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        // A name may begin with a `=`, and holds none else.
        let is_name = name.get(1..).is_some_and(|rest| !rest.contains(&b'='));
        let fits = is_name && !name.contains(&0) && !value.contains(&0);
        if fits {
            self.0.reserve(name.len() + value.len() + 2);
            self.0.extend_from_slice(name);
            self.0.push(b'=');
            self.0.extend_from_slice(value);
            self.0.push(0);
        }
        fits
    }

    /// Gives the memory back that no variable has needed.
    pub(super) fn finished(mut self) -> Self {
        self.0.shrink_to_fit();
        self
    }
}

impl<'a> FromIterator<(&'a [u8], &'a [u8])> for Block {
    fn from_iter<I: IntoIterator<Item = (&'a [u8], &'a [u8])>>(parts: I) -> Self {
        let mut block = Block::default();
        for (name, value) in parts {
            block.add(name, value);
        }
        block.finished()
    }
}

/// The name and the value in `NAME=VALUE`. None: it is no variable. A name is not empty, so a `=`
/// at the beginning belongs to it, as the C library has it.
pub(super) fn parts(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = text.iter().skip(1).position(|byte| *byte == b'=')? + 1;
    Some((text.get(..equals)?, text.get(equals + 1..)?))
}
