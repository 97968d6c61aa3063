//! How a connection becomes a session: `hello`, `challenge`, `proof`, then `welcome` or `reject`.

use serde::{Deserialize, Serialize};

use crate::envelope::{Body, Kind};
use crate::ids::{CoordinatorId, JournalId, MachineId};

/// The versions an agent speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest.
    pub min: u32,
    /// The newest.
    pub max: u32,
}

impl VersionRange {
    /// What this build speaks.
    #[must_use]
    pub fn ours() -> Self {
        Self { min: crate::MINIMUM_VERSION, max: crate::VERSION }
    }

    /// The newest version both ranges hold.
    #[must_use]
    pub fn agree(self, other: Self) -> Option<u32> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

/// The agent introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions it speaks.
    pub versions: VersionRange,
    /// Its own release, for people.
    pub agent_version: String,
    /// Who it claims to be; proven by `proof`.
    pub machine: MachineId,
    /// Names of operations it can do.
    pub operations: Vec<String>,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`): a new one means a reboot.
    pub boot_id: String,
    /// Its journal's id: a new one means its memory of what it started is gone.
    pub journal: JournalId,
    /// Operations it runs at once.
    pub max_concurrent: u32,
}

/// The coordinator asks for proof of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The version this session will speak.
    pub version: u32,
    /// The coordinator's id; the agent knows it from enrolment and refuses another.
    pub coordinator: CoordinatorId,
    /// 32 random bytes, used once.
    #[serde(with = "serde_bytes")]
    pub nonce: Vec<u8>,
}

/// The agent's signature over [`proof_message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Ed25519, 64 bytes (RFC 8032).
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// The session is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Counts the machine's sessions; a higher epoch fences every lower one.
    pub epoch: u64,
    /// How often to send `heartbeat`, milliseconds.
    pub heartbeat_ms: u64,
    /// The coordinator's clock, microseconds since 1970, to measure skew. Never used for deadlines.
    pub coordinator_time_us: i64,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectCode {
    /// No version in common.
    Version,
    /// No such machine here.
    UnknownMachine,
    /// The machine was revoked.
    Revoked,
    /// The signature is wrong.
    BadProof,
    /// Two agents use this machine's key at the same time.
    Cloned,
    /// The coordinator is stopping or overloaded; try again later.
    Unavailable,
    /// The messages made no sense.
    Malformed,
    /// A code this build does not know.
    #[serde(other)]
    Unknown,
}

/// There will be no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// For programs.
    pub code: RejectCode,
    /// For people: what, why, and what to do.
    pub message: String,
    /// Do not come back before, milliseconds.
    #[serde(default)]
    pub retry_after_ms: u64,
}

impl Body for Hello {
    const KIND: Kind = Kind::Hello;
}
impl Body for Challenge {
    const KIND: Kind = Kind::Challenge;
}
impl Body for Proof {
    const KIND: Kind = Kind::Proof;
}
impl Body for Welcome {
    const KIND: Kind = Kind::Welcome;
}
impl Body for Reject {
    const KIND: Kind = Kind::Reject;
}

/// The bytes an agent signs: a context that no other use of the key shares, the two ends, the
/// nonce and, when TLS ends in the coordinator itself, the channel (RFC 9266, `tls-exporter`), so
/// that a proof cannot be relayed from another connection.
///
/// Every part has a fixed or stated length, so no two inputs give the same bytes.
#[must_use]
pub fn proof_message(
    coordinator: CoordinatorId,
    machine: MachineId,
    nonce: &[u8],
    tls_exporter: Option<&[u8]>,
) -> Vec<u8> {
    let mut message = Vec::with_capacity(160);
    message.extend_from_slice(b"reeve agent session proof v1\0");
    message.extend_from_slice(coordinator.0.as_bytes());
    message.extend_from_slice(machine.0.as_bytes());
    for part in [nonce, tls_exporter.unwrap_or_default()] {
        message.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}
