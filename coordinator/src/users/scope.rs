//! Which machines exist for a caller.

use std::collections::BTreeMap;
use std::fmt;

use reeve_protocol::MachineId;

use crate::selector::Selector;

/// The person's selector and, with a key that has its own, the key's: a machine has to match both.
#[derive(Clone, Debug)]
pub struct Scope {
    person: Selector,
    key: Option<Selector>,
}

impl Scope {
    /// Everything within `person`, and within `key` if there is one.
    #[must_use]
    pub fn new(person: Selector, key: Option<Selector>) -> Self {
        Self { person, key }
    }

    /// Every machine.
    #[must_use]
    pub fn all() -> Self {
        Self::new(Selector::all(), None)
    }

    /// Whether it is every machine there is and will be.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.person.is_all() && self.key.as_ref().is_none_or(Selector::is_all)
    }

    /// Whether the machine exists for the caller.
    #[must_use]
    pub fn matches(&self, id: MachineId, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.person.matches(id, name, labels)
            && self.key.as_ref().is_none_or(|key| key.matches(id, name, labels))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            None => self.person.fmt(f),
            Some(key) if self.person.is_all() => key.fmt(f),
            Some(key) if key.is_all() => self.person.fmt(f),
            Some(key) => write!(f, "{} within {}", key, self.person),
        }
    }
}
