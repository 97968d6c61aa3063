//! The coordinator about itself, pages and problems.

use reeve_protocol::CoordinatorId;
use serde::{Deserialize, Serialize};

use super::{ApprovalNeeded, Provider, Time, UsageRow, VaultStatus};

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Ask with `cursor=` this for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An error answer (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `about:blank`, or a page that explains the code.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What, why, and what to do, for people.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// Joins this answer with the coordinator's log.
    #[serde(default)]
    pub request_id: String,
    /// Names near the one that was not found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
    /// With `approval_required`: what is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<ApprovalNeeded>>,
    /// With `wrong_offset`: where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
}

/// What anybody may know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Info {
    /// Always `reeve`.
    pub product: String,
    /// The coordinator's release.
    pub version: String,
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub coordinator_id: CoordinatorId,
    /// Nobody has used the first start's one-time code yet.
    pub setup_needed: bool,
}

/// Machines by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs)]
pub struct MachineCounts {
    pub online: u32,
    pub offline: u32,
    pub quarantined: u32,
    pub revoked: u32,
}

/// How the coordinator is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The coordinator's release.
    pub version: String,
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub coordinator_id: CoordinatorId,
    /// When it started.
    pub started: Time,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Whether it takes new work, and if not why: `ready`, `draining`, `database_down`, `disk_full`.
    pub readiness: String,
    /// Machines by state.
    pub machines: MachineCounts,
    /// Jobs that have not ended.
    pub jobs_running: u32,
    /// Operations sent or running.
    pub operations_running: u32,
    /// Bytes of output kept.
    pub output_bytes: u64,
    /// How the vault is; absent from coordinators that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultStatus>,
    /// Providers of models, whether they answer, and how much of their limits is used.
    #[serde(default)]
    pub providers: Vec<Provider>,
    /// What models used today (UTC).
    #[serde(default)]
    pub models_today: UsageRow,
}

/// Who did what, when. Each entry's hash covers the one before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// Counts from 1 without holes.
    pub sequence: i64,
    /// When.
    pub at: Time,
    /// Who: `user:NAME`, `key:NAME`, `machine:NAME`, `system`.
    pub principal: String,
    /// What, such as `job.create`.
    pub action: String,
    /// To what, such as `machine:web-1`.
    pub target: String,
    /// The rest.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub detail: serde_json::Value,
    /// SHA-256 over the previous hash and this entry, hexadecimal.
    pub hash: String,
}

/// Whether the audit chain is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditVerdict {
    /// Whether every hash fits.
    pub intact: bool,
    /// How many entries were checked.
    pub entries: u64,
    /// The first entry that does not fit.
    pub broken_at: Option<i64>,
}
