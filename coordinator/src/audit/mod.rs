//! Who did what, when: one chain of entries in which each hash covers the one before.

mod routes;
mod store;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

pub use routes::routes;
pub use store::{Filter, Head, list, record, record_later, verify};

/// Something to put down.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// `user:NAME`, `key:NAME`, `machine:NAME`, `system` or `anonymous`.
    pub principal: &'a str,
    /// Such as `job.create`.
    pub action: &'a str,
    /// Such as `machine:web-1`.
    pub target: &'a str,
    /// The rest. Never a secret.
    pub detail: serde_json::Value,
}

/// What the first link covers.
const GENESIS: [u8; 32] = [0; 32];

/// One entry as it is stored.
struct Link<'a> {
    sequence: i64,
    at: i64,
    principal: &'a str,
    action: &'a str,
    target: &'a str,
    /// JSON, the very text that is stored.
    detail: &'a str,
}

impl Link<'_> {
    /// SHA-256 over the hash before, the numbers in big-endian and each text after its length, so
    /// that no two entries have the same bytes.
    fn hash(&self, previous: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"reeve audit 1");
        hasher.update(previous);
        hasher.update(self.sequence.to_be_bytes());
        hasher.update(self.at.to_be_bytes());
        for text in [self.principal, self.action, self.target, self.detail] {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().into()
    }
}
