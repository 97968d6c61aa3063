//! Every machine's name, labels and standing, held in memory: selectors are resolved on each
//! request, and a database query per request would cost more than the request. Facts stay in the
//! database.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use reeve_protocol::MachineId;

use super::Selector;
use crate::nearest::nearest_names;

/// A machine as the registry knows it. Small: there may be 50,000.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: MachineId,
    /// Unique among machines.
    pub name: String,
    /// What selectors match.
    pub labels: BTreeMap<String, String>,
    /// Ed25519 public key, 32 bytes.
    pub public_key: Vec<u8>,
    /// Its proofs must be bound to the TLS channel.
    pub channel_binding: bool,
    /// Since when nobody with its key is let in, until somebody decides which one is real.
    pub quarantined_us: Option<i64>,
    /// Since when it is revoked, for good.
    pub revoked_us: Option<i64>,
}

/// Shared, cheap to clone. Written only after the database has committed the same.
#[derive(Clone, Default)]
pub struct Registry(Arc<RwLock<State>>);

#[derive(Default)]
struct State {
    machines: HashMap<MachineId, Arc<Known>>,
    names: BTreeMap<String, MachineId>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a machine in, or its new version in place of the old.
    pub fn put(&self, known: Known) {
        let mut state = self.write();
        if let Some(old) = state.machines.get(&known.id) {
            let old = old.name.clone();
            state.names.remove(&old);
        }
        state.names.insert(known.name.clone(), known.id);
        state.machines.insert(known.id, Arc::new(known));
    }

    /// Takes a machine out.
    pub fn remove(&self, id: MachineId) {
        let mut state = self.write();
        if let Some(old) = state.machines.remove(&id) {
            state.names.remove(&old.name);
        }
    }

    /// By id.
    #[must_use]
    pub fn find(&self, id: MachineId) -> Option<Arc<Known>> {
        self.read().machines.get(&id).cloned()
    }

    /// By name, or by id as text.
    #[must_use]
    pub fn find_named(&self, text: &str) -> Option<Arc<Known>> {
        let state = self.read();
        let id = state.names.get(text).copied().or_else(|| text.parse().ok())?;
        state.machines.get(&id).cloned()
    }

    /// Those a filter lets through, by name.
    #[must_use]
    pub fn list(&self, filter: impl Fn(&Known) -> bool) -> Vec<Arc<Known>> {
        let state = self.read();
        state
            .names
            .values()
            .filter_map(|id| state.machines.get(id))
            .filter(|known| filter(known))
            .cloned()
            .collect()
    }

    /// Names most like a text among those a filter lets through, nearest first.
    #[must_use]
    pub fn nearest(&self, text: &str, filter: impl Fn(&Known) -> bool) -> Vec<String> {
        let state = self.read();
        let names = state.machines.values().filter(|known| filter(known)).map(|known| &*known.name);
        nearest_names(text, names)
    }
}

impl Known {
    /// Whether a selector selects it.
    #[must_use]
    pub fn is_selected_by(&self, selector: &Selector) -> bool {
        selector.matches(self.id, &self.name, &self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Known {
        Known {
            id: MachineId::new(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            public_key: vec![0; 32],
            channel_binding: true,
            quarantined_us: None,
            revoked_us: None,
        }
    }

    #[test]
    fn nearest_names_are_those_a_typo_away() {
        let registry = Registry::default();
        for name in ["web-1", "web-2", "database-1", "edge"] {
            registry.put(known(name));
        }
        assert_eq!(registry.nearest("wbe-1", |_| true), ["web-1"]);
        assert_eq!(registry.nearest("web-3", |_| true), ["web-1", "web-2"]);
        assert_eq!(registry.nearest("databse-1", |_| true), ["database-1"]);
        assert!(registry.nearest("something-else", |_| true).is_empty());
        assert!(registry.nearest("web-3", |known| known.name == "edge").is_empty());
    }

    #[test]
    fn renamed_machine_leaves_its_old_name_free() {
        let registry = Registry::default();
        let mut machine = known("old");
        registry.put(machine.clone());
        machine.name = "new".to_owned();
        registry.put(machine.clone());
        assert!(registry.find_named("old").is_none());
        assert_eq!(registry.find_named("new").map(|found| found.id), Some(machine.id));
        assert_eq!(
            registry.find_named(&machine.id.to_string()).map(|found| found.id),
            Some(machine.id)
        );
        registry.remove(machine.id);
        assert!(registry.list(|_| true).is_empty());
    }
}
