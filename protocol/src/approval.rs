//! What a yes is bound to, as bytes: both ends hash the same, and this crate does no hashing.

use crate::ids::MachineId;

/// What the digest of an approval begins with: a hash made for something else never fits.
const CONTEXT: &[u8] = b"reeve approval v1\n";

/// The bytes whose SHA-256 is an approval's digest. `body` is the SHA-256 of the operation's
/// encoded body, `machines` that of [`machine_bytes`], `expires_us` microseconds since 1970.
#[must_use]
pub fn approval_message(body: &[u8; 32], machines: &[u8; 32], expires_us: i64) -> Vec<u8> {
    let mut message = CONTEXT.to_vec();
    message.extend_from_slice(body);
    message.extend_from_slice(machines);
    message.extend_from_slice(&expires_us.to_be_bytes());
    message
}

/// The ids of an approval's machines, 16 bytes each, sorted, each once.
#[must_use]
pub fn machine_bytes(machines: impl IntoIterator<Item = MachineId>) -> Vec<u8> {
    let mut ids: Vec<[u8; 16]> = machines.into_iter().map(|id| *id.0.as_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.concat()
}
