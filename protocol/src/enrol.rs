//! The one HTTP exchange of an agent: `POST /api/clients/register` (JSON), which turns a join token
//! into a machine. Everything after it happens in sessions.

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::ids::{CoordinatorId, MachineId};

/// What the agent sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The whole join token. Sent only after the TLS peer was checked against the token's pin.
    pub token: String,
    /// Random, made on the machine, kept with its key. A second registration with the same id and
    /// key answers the same, so that a lost answer can be asked for again.
    pub machine_id: MachineId,
    /// Ed25519 public key, 64 hexadecimal digits.
    pub public_key: String,
    /// The name asked for; `None` takes the token's, else the host name.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether the agent saw TLS end in the coordinator itself and will bind its proofs to the
    /// channel. Fixed from now on.
    pub channel_binding: bool,
    /// What kind of machine this is.
    pub facts: Facts,
}

/// What it gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registered {
    /// As sent.
    pub machine_id: MachineId,
    /// The name it has now.
    pub name: String,
    /// Whom it will talk to from now on, and nobody else.
    pub coordinator_id: CoordinatorId,
    /// Whether proofs must be bound to the channel.
    pub channel_binding: bool,
}
