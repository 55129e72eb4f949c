//! Which listeners a new generation has, and the one that serves has not; and the other way round.
//!
//! The model has no descriptors: the driver compares the two sets when it pins the generation, and
//! closes what is not needed when it is told to.

use std::fmt;

/// A listener, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLabel {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it is bound.
    pub address: String,
}

impl fmt::Display for ListenerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// What changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerChange {
    /// Only the new generation has these.
    pub added: Vec<ListenerLabel>,
    /// Only the one that serves has these.
    pub removed: Vec<ListenerLabel>,
}

impl ListenerChange {
    /// Whether both generations have the same listeners.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_by_its_name_and_its_address() {
        let mut label = ListenerLabel {
            name: Some("web".into()),
            address: "tcp:127.0.0.1:80".into(),
        };
        assert_eq!(label.to_string(), "web (tcp:127.0.0.1:80)");
        label.name = None;
        assert_eq!(label.to_string(), "tcp:127.0.0.1:80");
    }
}
