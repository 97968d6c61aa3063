//! Files kept at the coordinator for stdin of operations, and where stdin and output of a job lead.

use reeve_protocol::{OperationId, UploadId};
use serde::{Deserialize, Serialize};

use super::Time;

/// Announce a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// How long it will be, bytes.
    pub size: u64,
    /// Its BLAKE3, 64 hex digits; what arrives has to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl NewUpload {
    /// A file of this length, about which nothing else is said.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { size, blake3: None, name: None }
    }
}

/// How a file at the coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum UploadState {
    /// More of it is awaited.
    Open,
    /// All of it is there, and its hash is known.
    Complete,
    /// It is not what was announced, or was not continued in time. Nothing can be done with it.
    Broken,
}

impl UploadState {
    /// The word in API and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Complete => "complete",
            Self::Broken => "broken",
        }
    }
}

/// A file kept at the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: UploadId,
    /// As announced.
    pub name: Option<String>,
    /// How long it will be, bytes.
    pub size: u64,
    /// Bytes that are on the coordinator's disk; go on from here.
    pub received: u64,
    /// How it is.
    pub state: UploadState,
    /// Its BLAKE3: as announced, or as computed once it is complete.
    pub blake3: Option<String>,
    /// Who made it, and alone may use it.
    pub created_by: String,
    /// When it was made.
    pub created: Time,
    /// When it goes unless it is used again before.
    pub expires: Time,
}

/// Where stdin of a job's operations comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct JobInput {
    /// A file kept at the coordinator. It need not be complete yet.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub upload: UploadId,
}

/// Where output of a job leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OutputTo {
    /// Stdin of this operation, which has to be open.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub operation: OperationId,
}
