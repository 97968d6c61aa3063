//! Machines and the tokens they join with.

use std::collections::BTreeMap;

use reeve_protocol::{EnrolmentTokenId, Facts, MachineId, Metrics};
use serde::{Deserialize, Serialize};

use super::Time;

/// Whether a machine can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Its agent has a session.
    Online,
    /// It has none.
    Offline,
    /// Two agents used its key at the same time; neither is let in until somebody decides.
    Quarantined,
    /// It was revoked and will never be let in again.
    Revoked,
}

/// An enrolled machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Machine {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: MachineId,
    /// Unique among machines.
    pub name: String,
    /// What selectors match.
    pub labels: BTreeMap<String, String>,
    /// Whether it can be reached.
    pub state: MachineState,
    /// When it joined.
    pub enrolled: Time,
    /// When its agent was last heard.
    pub last_seen: Option<Time>,
    /// Its agent's release.
    pub agent_version: String,
    /// The kernel boot its agent runs in.
    pub boot_id: String,
    /// What it says of itself: untrusted text.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub facts: Facts,
    /// Its last heartbeat, while online.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub metrics: Option<Metrics>,
    /// Operations sent or running there now.
    pub running: u32,
    /// Its clock minus the coordinator's, milliseconds, while online.
    pub clock_skew_ms: Option<i64>,
}

/// What to change of a machine. What is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MachineChange {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels to set, or to remove with `null`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// `false` ends a quarantine: the next agent that proves the key is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<bool>,
}

/// A join token to make.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewEnrolmentToken {
    /// Labels every machine gets that joins with it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Name for the machine; only for tokens of one use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many machines may join with it; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<u32>,
    /// How long it is good for, milliseconds; an hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// A join token, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolmentToken {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: EnrolmentTokenId,
    /// Labels machines get.
    pub labels: BTreeMap<String, String>,
    /// Name the machine gets.
    pub name: Option<String>,
    /// Machines that may still join.
    pub uses_left: u32,
    /// Machines that could join at first.
    pub uses: u32,
    /// When it was made.
    pub created: Time,
    /// Who made it.
    pub created_by: String,
    /// When it stops working.
    pub expires: Time,
    /// When somebody revoked it.
    pub revoked: Option<Time>,
}

/// A join token with its secret, shown once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrolmentTokenCreated {
    /// The text to give to the agent.
    pub token: String,
    /// What can be seen of it later.
    pub details: EnrolmentToken,
    /// The coordinator's address as agents should dial it.
    pub url: String,
    /// A line that installs an agent on another machine and joins it; `TOKEN` stands for the token.
    pub install: String,
}
