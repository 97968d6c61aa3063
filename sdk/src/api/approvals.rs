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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How many machines.
    #[serde(default)]
    pub machine_count: u32,
    /// On which machines, by name; in lists the first hundred.
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

/// What a problem `approval_required` brings along: nothing was run, and this is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApprovalNeeded {
    /// Its id; `GET /api/approvals/{id}` shows all of it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: ApprovalId,
    /// SHA-256 over operation, machines and expiry, hexadecimal.
    pub digest: String,
    /// What it may do.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub effect: Effect,
    /// On how many machines.
    pub machine_count: u32,
    /// How many different people have to say yes.
    pub needed: u32,
    /// The asker's own yes does not count.
    pub other_than_requester: bool,
    /// Deciding needs the password again.
    pub step_up: bool,
    /// The rule that asks for it.
    pub rule: String,
    /// It is worth nothing from then on.
    pub expires: Time,
}

impl From<&Approval> for ApprovalNeeded {
    fn from(approval: &Approval) -> Self {
        Self {
            id: approval.id,
            digest: approval.digest.clone(),
            effect: approval.effect,
            machine_count: approval.machine_count,
            needed: approval.needed,
            other_than_requester: approval.other_than_requester,
            step_up: approval.step_up,
            rule: approval.rule.clone(),
            expires: approval.expires,
        }
    }
}

/// Take back what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// For the record.
    #[serde(default)]
    pub reason: String,
}

/// A rule of the coordinator's policy, as its settings say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyRuleView {
    /// The selector of the machines it is about.
    #[serde(rename = "match")]
    pub selector: String,
    /// `allow`, `approve:N`, `deny`; none: the default.
    pub read: Option<String>,
    /// Likewise.
    pub change: Option<String>,
    /// Likewise.
    pub destroy: Option<String>,
    /// The asker's own yes does not count; none: it does where one is enough.
    pub other_than_requester: Option<bool>,
    /// Deciding needs the password again; none: for what destroys.
    pub step_up: Option<bool>,
    /// `task`, `command` or both.
    pub applies_to: Vec<String>,
}

/// What needs whose yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PolicyView {
    /// The rules; the strictest that matches a target wins.
    pub rules: Vec<PolicyRuleView>,
    /// How long an approval can be given and used, milliseconds.
    pub expire_ms: u64,
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
