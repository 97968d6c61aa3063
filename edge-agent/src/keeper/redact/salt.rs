//! The same secret has the same placeholder within one operation, and tells nothing outside of it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Of a long secret this much counts, bytes: more is not kept.
pub const MAX_HASHED: usize = 4096;

/// Random, made for one operation and kept nowhere: without it, sixteen bits of a hash can be
/// held against no guess.
#[derive(Clone)]
pub struct Salt([u8; 32]);

impl Salt {
    /// A new one, from the system's random generator.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self(bytes)
    }

    /// Such as `[redacted:bearer:3f9a]`.
    pub fn write(&self, kind: &str, secret: &[u8], out: &mut Vec<u8>) {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(&secret[..secret.len().min(MAX_HASHED)]);
        let digest = hash.finalize();
        let mark = u16::from_be_bytes([digest[0], digest[1]]);
        out.extend_from_slice(format!("[redacted:{kind}:{mark:04x}]").as_bytes());
    }
}
