//! Approvals: a single-use yes, bound to a hash.

use reeve_protocol::ops::Effect;
use reeve_protocol::{ApprovalId, JobId, MachineId, TaskId};
use serde::{Deserialize, Serialize};

use super::{OperationRequest, Time};

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Waits for people.
    Pending,
    /// Enough people said yes; not used yet.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Its time was up before it was used.
    Expired,
    /// What was asked for is no longer wanted.
    Withdrawn,
    /// Used, once and for all: `job_id` says for what.
    Used,
}

impl ApprovalState {
    /// The word in API and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Used => "used",
        }
    }
}

/// A yes that is waited for, or was given. It binds to exactly what it shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: ApprovalId,
    /// SHA-256 over operation, machines and expiry, hexadecimal. Say it back when deciding.
    pub digest: String,
    /// Where it stands.
    pub state: ApprovalState,
    /// The task that needs it; none when a command was asked for directly.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub task_id: Option<TaskId>,
    /// Its step there.
    pub subtask: Option<u32>,
    /// Who asked.
    pub requested_by: String,
    /// What will run, byte for byte.
    pub operation: OperationRequest,
    /// What for.
    pub purpose: String,
    /// What it may do.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub effect: Effect,
    /// Why it has that effect.
    pub effect_reasons: Vec<String>,
    /// On which machines, by name.
    pub machines: Vec<ApprovalMachine>,
    /// What would take it back.
    pub undo: Option<String>,
    /// How many different people have to say yes.
    pub needed: u32,
    /// The asker's own yes does not count.
    pub other_than_requester: bool,
    /// Deciding needs the password again.
    pub step_up: bool,
    /// Who has decided so far.
    pub decisions: Vec<ApprovalDecision>,
    /// The rule that asks for it: `policy env=prod`, `default`, `inspect unavailable on web-1`.
    pub rule: String,
    /// When it was asked for.
    pub created: Time,
    /// It is worth nothing from then on.
    pub expires: Time,
    /// What it was used for.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uuid"))]
    pub job_id: Option<JobId>,
}

/// A machine of an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalMachine {
    /// Its id; this is what the hash covers.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: MachineId,
    /// Its name.
    pub name: String,
}

/// Somebody's yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalDecision {
    /// Who.
    pub by: String,
    /// Yes.
    pub approved: bool,
    /// When.
    pub at: Time,
    /// For the record.
    pub reason: String,
}

/// Decide about an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// The digest as shown: a yes to something else is refused (409 `approval_changed`).
    pub digest: String,
    /// The password, where `step_up` says so (401 `password_needed`, `wrong_password`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// For the record.
    #[serde(default)]
    pub reason: String,
}
