//! Who this machine is, and whom it talks to.

use ed25519_dalek::SigningKey;
use reeve_protocol::{CoordinatorId, MachineId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{StateError, StateFolder};

const FILE: &str = "identity.json";
const KEY: &str = "key";

/// What enrolment gave. The key is kept apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The coordinator, such as `https://reeve.example:7717`.
    pub url: String,
    /// This machine.
    pub machine_id: MachineId,
    /// Its name at enrolment.
    pub name: String,
    /// The only coordinator this agent proves itself to.
    pub coordinator_id: CoordinatorId,
    /// The coordinator's certificate authority, for people; the pin is what counts.
    pub ca_pem: String,
    /// Hexadecimal SHA-256 of the authority's public key; empty for plain HTTP on loopback.
    pub pin: String,
    /// Whether proofs are bound to the TLS channel.
    pub channel_binding: bool,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// When the machine is not enrolled, or the file is damaged.
    pub fn load(folder: &StateFolder) -> Result<Self, StateError> {
        let path = folder.file(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StateError::NotEnrolled { path });
            }
            Err(source) => return Err(StateError::Io { path, source }),
        };
        serde_json::from_slice(&text)
            .map_err(|error| StateError::Damaged { path, reason: error.to_string() })
    }

    /// Whether there is one.
    #[must_use]
    pub fn exists(folder: &StateFolder) -> bool {
        folder.file(FILE).exists()
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, folder: &StateFolder) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| StateError::Damaged {
            path: folder.file(FILE),
            reason: error.to_string(),
        })?;
        folder.write_file(FILE, &text, true)
    }
}

/// Reads the machine's key from a file of the state folder.
///
/// # Errors
/// When it is missing or damaged.
pub fn load_key(folder: &StateFolder) -> Result<SigningKey, StateError> {
    let path = folder.file(KEY);
    let bytes = Zeroizing::new(
        std::fs::read(&path).map_err(|source| StateError::Io { path: path.clone(), source })?,
    );
    let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| StateError::Damaged {
        path,
        reason: format!("{} bytes instead of 32", bytes.len()),
    })?;
    Ok(SigningKey::from_bytes(seed))
}

/// A machine that is about to enrol: kept so that a retry registers the same machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pending {
    /// The id it will have.
    pub machine_id: MachineId,
}

impl Pending {
    /// The machine that began to enrol, or a new one. Its key is in place afterwards.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn load_or_create(folder: &StateFolder) -> Result<(Self, SigningKey), StateError> {
        let path = folder.file("pending");
        if let Ok(text) = std::fs::read(&path)
            && let Ok(pending) = serde_json::from_slice::<Self>(&text)
            && let Ok(key) = load_key(folder)
        {
            return Ok((pending, key));
        }
        let mut seed = Zeroizing::new([0_u8; 32]);
        rand::fill(seed.as_mut_slice());
        // Random, not by time: it tells nobody when the machine was set up.
        let pending = Self { machine_id: MachineId(uuid::Uuid::new_v4()) };
        folder.write_file(KEY, seed.as_slice(), true)?;
        let text = serde_json::to_vec(&pending)
            .map_err(|error| StateError::Damaged { path, reason: error.to_string() })?;
        folder.write_file("pending", &text, true)?;
        Ok((pending, SigningKey::from_bytes(&seed)))
    }

    /// Enrolment is done.
    pub fn remove(folder: &StateFolder) {
        let _ = std::fs::remove_file(folder.file("pending"));
    }
}
